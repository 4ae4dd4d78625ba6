"""``rlnas export``: a network as files that need nothing of ours."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from rlnas.cli.arguments import add_target, make_parser, parse, target_folder
from rlnas.cli.before_after import cost_lines, output_lines
from rlnas.cli.reading import described_input, read_network
from rlnas.errors import ConfigError, unknown_name
from rlnas.interchange import FORMATS, export, onnx_excuse
from rlnas.network import Network
from rlnas.operators.simplify import Finding, simplify

ABOUT = {
    "model.py": "PyTorch source; imports torch and safetensors only",
    "weights.safetensors": "its weights",
    "graph.json": "the architecture as data, for rlnas.load",
    "model.onnx": "ONNX, any batch size",
}


def export_network(words: Sequence[str]) -> int:
    """Write the files; returns the exit status."""
    parser = make_parser("export", "Write a network as plain PyTorch, safetensors, ONNX and graph.json.")
    add_target(parser)
    parser.add_argument(
        "--formats",
        metavar="A,B",
        help=f"some of {', '.join(FORMATS)}; by default all, onnx only where its packages are installed",
    )
    parser.add_argument(
        "--simplify",
        action="store_true",
        help="first take out what the network can do without, such as BatchNorm; it gives the same in eval mode",
    )
    given = parse(parser, words)
    if given is None:
        return 0
    torch.set_num_threads(1)
    excuse = onnx_excuse()
    formats = _formats(given.formats) if given.formats else [name for name in FORMATS if name != "onnx" or not excuse]
    folder = target_folder(given.to, known={file for files in FORMATS.values() for file in files}, force=given.force)
    network = read_network(given)
    if given.simplify:
        network = _simplified(network)
    done = export(network, folder, formats=formats, inputs=described_input(given.network))
    width = max(len(str(folder / name)) for name in done.files)
    for name in done.files:
        print(f"{folder / name!s:<{width}}   {ABOUT[name]}")
    if done.onnx_difference is not None:
        print(f"ONNX Runtime against PyTorch: largest difference {done.onnx_difference:.1e} of the largest output")
    elif excuse and not given.formats:
        print(f"no model.onnx: {excuse}")
    return 0


def _simplified(network: Network) -> Network:
    """The network without what it can do without; prints what that is."""
    findings: list[Finding] = []
    after = simplify(network, report=findings.append)
    print(f"simplified: {len(findings)} {'thing' if len(findings) == 1 else 'things'} taken out")
    if findings:
        said = output_lines(network, after, kind="exact in eval mode")
        for line in [*map(str, findings), *cost_lines(network.graph, after.graph), *said]:
            print(f"  {line}")
    return after


def _formats(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise ConfigError(f"--formats={text!r} names no format; known: {', '.join(FORMATS)}")
    for name in names:
        if name not in FORMATS:
            raise ConfigError(unknown_name("format", name, FORMATS))
    return names
