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


class Apart:
    """A function of a module at work in a process of its own, with the methods of `subprocess.Popen` that tests use.

    The process is forked from one that has done nothing but import `tests.preloaded`, so that none of ours is imported.
    It is alone in its group of processes.

    Args:
        folder: Where the process is.
        variables: Its environment.
    """

    def __init__(self, work: Callable[..., None], *arguments: Any, folder: Path, variables: Mapping[str, str]) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([PRELOADED])
        with contextlib.chdir(REPOSITORY):  # what is preloaded is looked for there, and given up silently elsewhere
            forkserver.ensure_running()
        self._outputs = tempfile.TemporaryDirectory()
        self._paths = [Path(self._outputs.name, name) for name in ("stdout", "stderr")]
        given = (work, arguments, folder, dict(variables), self._paths)
        self._process = context.Process(target=_apart, args=given)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit status, or the negative number of the signal that ended it; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """As `returncode`."""
        return self._process.exitcode

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        """Wait for its end; gives what it printed and its errors, once.

        Raises:
            TimeoutExpired: If it takes longer than ``timeout`` seconds; it is killed.
        """
        self._process.join(timeout)
        late = self._process.exitcode is None
        if late:
            self._process.kill()
            self._process.join()
        out, err = (path.read_text() if path.exists() else "" for path in self._paths)
        self._outputs.cleanup()
        if late:
            raise subprocess.TimeoutExpired(self._process.name, timeout, out, err)
        return out, err


def run_apart(
    work: Callable[..., None], *arguments: Any, folder: Path, variables: Mapping[str, str], timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """Let a function of a module do its work as `Apart` does, and wait for it.

    Raises:
        TimeoutExpired: If it takes longer than ``timeout`` seconds; it is killed.
    """
    process = Apart(work, *arguments, folder=folder, variables=variables)
    out, err = process.communicate(timeout)
    assert process.returncode is not None
    return subprocess.CompletedProcess([work.__name__, *map(str, arguments)], process.returncode, out, err)


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
    os.setpgid(0, 0)
    assert PRELOADED in sys.modules, "the server that forks processes for tests was started by something else"
    for descriptor, path in zip((1, 2), outputs, strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    work(*arguments)
