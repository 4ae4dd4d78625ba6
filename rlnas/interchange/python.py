"""Write a network as a folder that needs nothing of ours: ``model.py``, ``weights.safetensors``, ``model.onnx``."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from rlnas.errors import ExportError, unknown_name
from rlnas.graph import Graph
from rlnas.interchange.names import renamed, tidy
from rlnas.interchange.onnx import write_onnx
from rlnas.interchange.structure import Structure, flat, structured
from rlnas.network import GRAPH_FILE, WEIGHTS_FILE, Network, example_inputs

SOURCE_FILE = "model.py"
ONNX_FILE = "model.onnx"

FORMATS: Final[Mapping[str, tuple[str, ...]]] = {
    "python": (SOURCE_FILE, WEIGHTS_FILE),
    "safetensors": (WEIGHTS_FILE,),
    "graph": (GRAPH_FILE,),
    "onnx": (ONNX_FILE,),
}
"""Files of each format."""

HEADER = '''"""A network written by rlnas; it needs torch and safetensors only.

Input: {inputs}.
Output: {outputs}.

    from model import load
    network = load("{weights}")
"""

'''

LOADER = '''

def load(path: str = "{weights}") -> Network:
    """The network with its weights, in eval mode."""
    network = Network()
    network.load_state_dict(load_file(path))
    return network.eval()
'''


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        network: The network with the names that the files have.
        files: Names of the files, in order.
        onnx_difference: Largest relative difference of the ONNX file's outputs from PyTorch's; None without one.
    """

    network: Network
    files: tuple[str, ...]
    onnx_difference: float | None = None


def export(
    network: Network,
    folder: str | Path,
    *,
    formats: Iterable[str] = ("python", "graph"),
    inputs: str | None = None,
    outputs: str | None = None,
) -> Exported:
    """Write a network, its layers named by what they do, in some formats.

    Files of a network that lie there already are replaced, as `replaced` says.

    Args:
        formats: Names in `FORMATS`.
        inputs: What the network takes, in words; goes into the source. By default its type and shape.
        outputs: What it gives.

    Raises:
        ExportError: If a format is not known or the folder cannot be written; or as `write_onnx`.
    """
    wanted = list(dict.fromkeys(formats))
    for name in wanted:
        if name not in FORMATS:
            raise ExportError(unknown_name("format", name, FORMATS))
    files = tuple(dict.fromkeys(file for name in wanted for file in FORMATS[name]))
    neat, difference = tidy(network), None
    structure = _checked(structured(neat.graph), neat)
    neat = renamed(neat, structure.ids)
    with replaced(folder) as partial:
        if ONNX_FILE in files:
            difference = write_onnx(neat, partial / ONNX_FILE)
        neat.save(partial, places=structure.places)
        if SOURCE_FILE in files:
            text = model_text(structure.source, neat.graph, inputs=inputs, outputs=outputs)
            (partial / SOURCE_FILE).write_text(text)
        for name in {GRAPH_FILE, WEIGHTS_FILE}.difference(files):
            (partial / name).unlink()
    return Exported(neat, files, difference)


def _checked(structure: Structure, network: Network) -> Structure:
    """The source, if it gives bit for bit what the network gives; else that which the network itself runs."""
    if structure.plain:
        return structure
    inputs = example_inputs(network.graph, 2, generator=torch.Generator().manual_seed(0), dtype=network.dtype)
    with torch.no_grad():
        expected = network.module().eval()(inputs)
        found = structure.module(renamed(network, structure.ids).tensors).eval()(inputs)
    return structure if torch.equal(found, expected) else flat(network.graph)


@contextmanager
def replaced(folder: str | Path) -> Iterator[Path]:
    """A place to write a network's files, which then replace those in a folder; those that are not written again go.

    A reader meets no half of a file, and an error before the end leaves the folder as it was.

    Raises:
        ExportError: If the folder cannot be written.
    """
    path = Path(folder)
    partial = path / ".partial"
    try:
        made = not path.exists()
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            yield partial
            written = {file.name for file in partial.iterdir()}
            for name in {file for files in FORMATS.values() for file in files} - written:
                (path / name).unlink(missing_ok=True)
            for name in sorted(written):
                (partial / name).replace(path / name)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            if made and path.is_dir() and not any(path.iterdir()):
                path.rmdir()
    except OSError as error:
        raise ExportError(f"cannot write into {path}: {error.strerror} ({error.filename})") from None


def write_model(network: Network, folder: str | Path, *, inputs: str, outputs: str) -> Network:
    """Write ``graph.json``, ``weights.safetensors`` and ``model.py`` of the tidied network, which is returned.

    Files of a network that lie there already are replaced, as `replaced` says.

    Args:
        inputs: What the network takes, in words; goes into the source.
        outputs: What it gives.

    Raises:
        ExportError: If the folder cannot be written.
    """
    return export(network, folder, inputs=inputs, outputs=outputs).network


def model_text(source: str, graph: Graph, *, inputs: str | None = None, outputs: str | None = None) -> str:
    """Text of ``model.py``."""
    source = source.replace(
        "from torch import nn\n", "from safetensors.torch import load_file\nfrom torch import nn\n", 1
    )
    shape = ", ".join(map(str, graph.output_shape))
    header = HEADER.format(
        inputs=(inputs or describe_input(graph)).removesuffix("."),
        outputs=outputs or f"shape (N, {shape})",
        weights=WEIGHTS_FILE,
    )
    return header + source + LOADER.format(weights=WEIGHTS_FILE)


def describe_input(graph: Graph) -> str:
    """What a graph takes, in words."""
    return f"{graph.input['dtype']}, shape (N, {', '.join(map(str, graph.input_shape))})"
