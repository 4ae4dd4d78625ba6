"""Command lines of the commands that take a network: the words checked, and what may be written over."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from rlnas.errors import ConfigError, RunError
from rlnas.graph import Graph

NETWORK_HELP = (
    "a folder with graph.json and weights.safetensors, a run's directory (its best network), or a module of your own "
    "with --input: net.py:Net, package.module:factory, 'net.py:Net(10, width=64)' (runs that code)"
)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are of the package's own kind."""

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong, with the nearest option where one is unknown."""
        unknown = re.search(r"unrecognized arguments: (--[\w-]+)", message)
        options = [word for action in self._actions for word in action.option_strings]
        near = difflib.get_close_matches(unknown[1], options, n=1) if unknown else []
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(f"{self.prog}: {message}{hint} ({self.prog} --help tells more)")


def make_parser(command: str, description: str) -> Parser:
    """A parser of ``rlnas COMMAND NETWORK ...``."""
    parser = Parser(prog=f"rlnas {command}", description=description, allow_abbrev=False)
    parser.add_argument("network", metavar="NETWORK", help=NETWORK_HELP)
    own = parser.add_argument_group("a module of your own")
    own.add_argument("--input", metavar="SHAPE", help="shape of a batch of inputs: 1,3,32,32, or 1,16:int64 for ids")
    own.add_argument("--weights", metavar="FILE", help="its state_dict: .safetensors, or what torch.save wrote")
    own.add_argument("--opaque", action="store_true", help="keep operations that are not known as black boxes")
    return parser


def parse(parser: Parser, words: Sequence[str]) -> argparse.Namespace | None:
    """The arguments; None if help was asked for, which is then printed.

    Raises:
        ConfigError: If they are not as they should be.
    """
    if any(word in ("-h", "--help") for word in words):
        parser.print_help()
        return None
    return parser.parse_args(words)


def add_target(parser: Parser) -> None:
    """Options of a command that writes a folder."""
    parser.add_argument("--to", metavar="FOLDER", required=True, help="folder to write into, made if need be")
    parser.add_argument("--force", action="store_true", help="replace the network that is in the folder")


def target_folder(path: str | Path, *, known: Iterable[str], force: bool) -> Path:
    """A folder to write into: new or empty, or with `force` one that holds a network, which is replaced.

    Args:
        known: Names of the files of a network.

    Raises:
        RunError: If it holds a network and `force` is False, or other things, or is a file.
    """
    folder, files = Path(path), set(known)
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file; name a folder")
    there = sorted(name for name in names_in(folder) if not name.startswith(".") and name != "__pycache__")
    if other := [name for name in there if name not in files]:
        shown = ", ".join(other[:3]) + (", ..." if len(other) > 3 else "")
        raise RunError(f"{folder} holds other things already ({shown}); name a new or an empty folder")
    if there and not force:
        raise RunError(f"{folder} holds a network already ({', '.join(there)}); --force replaces it, or name another")
    return folder


def target_file(path: str | Path, *, force: bool) -> Path:
    """A file to write.

    Raises:
        RunError: If there is one already and `force` is False.
    """
    file = Path(path)
    if file.exists() and not force:
        raise RunError(f"{file} exists already; --force replaces it, or name another")
    return file


def read_settings(path: str | Path) -> str:
    """What a file of settings holds.

    Raises:
        ConfigError: If it cannot be read; names one that may be meant.
    """
    file = Path(path)
    try:
        return file.read_text()
    except IsADirectoryError:
        inside = sorted(name for name in names_in(file) if name.endswith((".yaml", ".yml")))
        some = f" in it: {', '.join(inside[:3])}{', ...' if len(inside) > 3 else ''}" if inside else ""
        raise ConfigError(f"{path} is a folder; name a file{some}") from None
    except OSError as error:
        near = path_nearby(file)
        hint = f"; did you mean {near}?" if near else ""
        raise ConfigError(f"cannot read {path}: {error.strerror}{hint}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from None


def check_node(graph: Graph, id: str) -> None:
    """Raise if a graph has no node of that id.

    Raises:
        ConfigError: If it has none; names the nearest.
    """
    if id in graph:
        return
    near = difflib.get_close_matches(id, [*graph.shapes], n=3, cutoff=0.5)
    hint = f" did you mean {' or '.join(near)}?" if near else ""
    raise ConfigError(f"the network has no node {id!r};{hint} rlnas show lists all of them")


def path_nearby(path: Path) -> Path | None:
    """What lies in the same folder under the nearest name; None if nothing has one that is near."""
    near = difflib.get_close_matches(path.name, names_in(path.parent), n=1)
    return path.parent / near[0] if near else None


def names_in(folder: Path) -> list[str]:
    """Names of what lies in a folder; none if it cannot be read."""
    try:
        return [path.name for path in folder.iterdir()]
    except OSError:
        return []
