"""The network that a command is given: a folder, a run, a file, or a module in a person's own code."""

from __future__ import annotations

import argparse
import ast
import json
from pathlib import Path

from rlnas.cli.arguments import path_nearby
from rlnas.cli.modules import is_specification, read_module
from rlnas.errors import ConfigError, GraphError
from rlnas.network import GRAPH_FILE, Network
from rlnas.runs import CONFIG_FILE


def read_network(given: argparse.Namespace) -> Network:
    """The network of a command's arguments.

    Raises:
        ConfigError: If the options do not go with it, or a module cannot be made.
        GraphError: If there is none, it is damaged, or it cannot be taken in.
    """
    if not Path(given.network).exists() and is_specification(given.network):
        return read_module(
            given.network, shape=given.input, weights=given.weights, opaque=given.opaque, seed=getattr(given, "seed", 0)
        )
    _refuse_code(Path(given.network))
    for name in ("input", "weights", "opaque"):
        if getattr(given, name):
            raise ConfigError(f"--{name} is for a module such as net.py:Net; {given.network} is read as it is")
    place = network_folder(given.network)
    if place.is_dir():
        return Network.load(place)
    try:
        return Network.from_bytes(place.read_bytes())
    except OSError as error:
        raise GraphError(f"cannot read {place}: {error.strerror}") from None
    except GraphError as error:
        raise GraphError(f"{place}: {error}") from None


def network_folder(path: str | Path) -> Path:
    """Where a network lies: a folder with its two files, or the file itself.

    Raises:
        GraphError: If there is none.
    """
    given = Path(path)
    if given.is_file() or (given / GRAPH_FILE).is_file():
        return given
    if (given / "best" / GRAPH_FILE).is_file():
        return given / "best"
    if (given / CONFIG_FILE).is_file():
        raise GraphError(f"the run {given} has no best network yet")
    if given.is_dir():
        raise GraphError(f"no network in {given}: it holds neither {GRAPH_FILE} nor best/{GRAPH_FILE}")
    near = path_nearby(given)
    hint = f"did you mean {near}?" if near else f"name a run, or a folder that holds {GRAPH_FILE}"
    raise GraphError(f"there is no {given}; {hint}")


def described_input(path: str) -> str | None:
    """What the network at a path takes, as the run that made it says; None if it does not."""
    if not Path(path).exists():
        return None
    place = network_folder(path)
    try:
        said = json.loads((place / "metrics.json").read_text())["input"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return said if isinstance(said, str) else None


def _refuse_code(path: Path) -> None:
    """Say what to give instead of a file that holds no network of ours."""
    if path.suffix == ".py" and path.is_file():
        try:
            classes = [node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)]
        except (SyntaxError, UnicodeDecodeError, OSError):
            classes = []
        raise ConfigError(f"{path} is Python code: name the class in it too, as in {path}:{(classes or ['Net'])[-1]}")
    if path.suffix in (".pt", ".pth", ".ckpt", ".bin") and path.is_file():
        raise ConfigError(f"{path} holds weights only; name the module that they are for: net.py:Net --weights {path}")
    if path.suffix == ".onnx":
        raise ConfigError(f"{path}: ONNX files are written, not read; name the module instead, as in net.py:Net")
