"""The searches of a comparison as processes: several at a time, resumed where they were, ended with the parent."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import yaml

from rlnas.cli.compare_settings import Cell
from rlnas.errors import RunError
from rlnas.runs import FREE, RunDirectory, write_text

POLL_S: Final = 0.2
STOP_S: Final = 60.0
"""Longest time that a search has to save what is finished, and that a comparison waits for an earlier one's to end."""
MAY_DIFFER: Final = ("progress", "tracking", "run")
"""Settings that a search may have been made with otherwise and still be the one that is asked for."""


@dataclass
class Running:
    """A search in work.

    Attributes:
        cell: The search.
        process: Its process.
        log: What it prints.
        begun: When, in seconds.
    """

    cell: Cell
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    begun: float


class Folder:
    """Where a comparison lies: a run directory for each cell, settings and logs.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "compare.yaml"
        self.logs = path / "logs"
        self.html = path / "report.html"
        self.searches_csv = path / "searches.csv"
        self.curves_csv = path / "curves.csv"

    def run(self, cell: Cell) -> RunDirectory:
        """The run directory of a cell, which may not be there yet."""
        return RunDirectory(self.path / cell.name)

    def log(self, cell: Cell) -> Path:
        """What the process of a cell prints."""
        return self.logs / f"{cell.name}.log"

    def finished(self, cell: Cell) -> bool:
        """Whether a cell has come to its end."""
        return self.run(cell).report.is_file()

    @contextmanager
    def alone(self, *, say: Callable[[str], None]) -> Iterator[int]:
        """Let one process at a time work on a comparison; gives the lock, which its searches inherit.

        So the lock is free when the last search of a killed comparison has ended, too.

        Raises:
            RunError: If another one does not end, or the folder cannot be written.
        """
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise RunError(f"cannot write {self.path}: {error.strerror}") from None
        try:
            end, told = time.monotonic() + STOP_S, False
            while not _locked(lock):
                if time.monotonic() > end:
                    raise RunError(f"another rlnas compare is at work on {self.path}; wait for it, or stop it")
                if not told:
                    say(f"waiting for searches of an earlier rlnas compare on {self.path} to end")
                told = True
                time.sleep(POLL_S)
            yield lock
        finally:
            os.close(lock)


def prepare(folder: Folder, cells: Sequence[Cell]) -> None:
    """Check that what is there of earlier calls is what is asked for.

    Raises:
        RunError: If a run directory was made under other settings.
    """
    for cell in cells:
        run = folder.run(cell)
        if not run.path.exists():
            continue
        if not run.config.exists() and not run.events.exists():  # killed while it was being made
            shutil.rmtree(run.path, ignore_errors=True)
            continue
        there = RunDirectory.open(run.path)[1]
        if (key := _differs(there, cell.settings)) is not None:
            raise RunError(
                f"{run.path} was made under other settings ({key}); give the comparison another "
                "name, or remove that folder"
            )


def run_cells(
    folder: Folder,
    cells: Sequence[Cell],
    *,
    jobs: int,
    lock: int,
    ended: Callable[[Cell, int, float], None],
    poll: Callable[[Sequence[Cell]], None],
) -> None:
    """Run searches, so many at a time, each in a process of its own; stops them if it is interrupted.

    Args:
        cells: Those that have not come to their end.
        lock: Of `Folder.alone`.
        ended: Called with each cell that has ended, its exit status and the seconds that it took.
        poll: Called with the cells in work, now and then.
    """
    waiting = list(cells)
    running: list[Running] = []
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(_start(folder, waiting.pop(0), lock))
            time.sleep(POLL_S)
            for one in [r for r in running if r.process.poll() is not None]:
                running.remove(one)
                _close(one)
                ended(one.cell, int(one.process.returncode), time.monotonic() - one.begun)
            poll([one.cell for one in running])
    finally:
        _stop(running)


def _start(folder: Folder, cell: Cell, lock: int) -> Running:
    run = folder.run(cell)
    if run.path.exists():
        words = ["resume", str(run.path)]
    else:
        settings = folder.logs / f"{cell.name}.yaml"
        write_text(settings, yaml.safe_dump(cell.settings, sort_keys=False))
        words = ["train", "--config", str(settings)]
    log = open(folder.log(cell), "ab")  # noqa: SIM115  (closed when the process has ended)
    process = subprocess.Popen(
        [sys.executable, *_warnings(), "-m", "rlnas.cli.cell", *words],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C goes to this process, which lets them save and stop
        pass_fds=(lock,),
    )
    return Running(cell, process, log, time.monotonic())


def _warnings() -> list[str]:
    return [f"-W{option}" for option in sys.warnoptions]


def _stop(running: Sequence[Running]) -> None:
    """Close the pipes, which lets them save and stop; kill those that do not."""
    for one in running:
        assert one.process.stdin is not None
        one.process.stdin.close()
    end = time.monotonic() + STOP_S
    for one in running:
        try:
            one.process.wait(timeout=max(0.1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            one.process.kill()
            one.process.wait()
        _close(one)


def _close(one: Running) -> None:
    assert one.process.stdin is not None
    one.process.stdin.close()
    one.log.close()


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _differs(there: dict[str, Any], wanted: dict[str, Any]) -> str | None:
    """The first setting that differs and matters."""
    for group in wanted:
        if group in MAY_DIFFER:
            continue
        mine, theirs = wanted[group], there.get(group)
        if not isinstance(mine, dict) or not isinstance(theirs, dict):
            if mine != theirs:
                return group
            continue
        for key in mine:
            if key not in FREE.get(group, ()) and mine[key] != theirs.get(key):
                return f"{group}.{key}"
    return None
