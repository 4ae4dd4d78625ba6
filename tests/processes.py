"""Processes of their own for tests, without the seconds that other people's packages take to be imported in each."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import types
import warnings
from collections.abc import Callable, Mapping
from multiprocessing import forkserver
from pathlib import Path
from typing import Any, Final

REPOSITORY: Final = Path(__file__).parents[1]
PRELOADED: Final = "tests.preloaded"


def run_apart(
    work: Callable[..., None], *arguments: Any, folder: Path, variables: Mapping[str, str], timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """Let a function of a module do its work in a process of its own, and wait for it.

    The process is forked from one that has done nothing but import `tests.preloaded`, so that none of ours is imported.

    Args:
        folder: Where the process is.
        variables: Its environment.

    Raises:
        TimeoutExpired: If it takes longer than ``timeout`` seconds; it is killed.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([PRELOADED])
    with contextlib.chdir(REPOSITORY):  # what is preloaded is looked for there, and given up silently anywhere else
        forkserver.ensure_running()
    with tempfile.TemporaryDirectory() as outputs:
        paths = [Path(outputs, name) for name in ("stdout", "stderr")]
        process = context.Process(target=_apart, args=(work, arguments, folder, dict(variables), paths))
        process.start()
        process.join(timeout)
        late = process.exitcode is None
        if late:
            process.kill()
            process.join()
        printed = [path.read_text() if path.exists() else "" for path in paths]
        if late:
            raise subprocess.TimeoutExpired(work.__name__, timeout, *printed)
        assert process.exitcode is not None
        return subprocess.CompletedProcess([work.__name__, *map(str, arguments)], process.exitcode, *printed)


def python_source(source: str) -> None:
    """What ``python -W error -c SOURCE`` does."""
    warnings.simplefilter("error")
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    exec(compile(source, "<string>", "exec"), module.__dict__)


def python_file(path: Path, words: tuple[str, ...]) -> None:
    """What ``python -W error PATH WORDS`` does."""
    warnings.simplefilter("error")
    sys.argv = [str(path), *words]
    sys.path.insert(0, str(path.parent))
    runpy.run_path(str(path), run_name="__main__")


def command_line(words: tuple[str, ...]) -> None:
    """What ``python -m rlnas WORDS`` does."""
    sys.argv = ["rlnas", *words]
    import rlnas.__main__ as started
    from rlnas.cli.main import main

    sys.modules["__main__"] = started  # what workers, being spawned, import first
    main(words)


def _apart(
    work: Callable[..., None], arguments: tuple[Any, ...], folder: Path, variables: dict[str, str], outputs: list[Path]
) -> None:
    assert PRELOADED in sys.modules, "the server that forks processes for tests was started by something else"
    for descriptor, path in zip((1, 2), outputs, strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    work(*arguments)
