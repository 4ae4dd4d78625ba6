"""The machine that measures: its name, its exclusive use, and whether something else keeps it busy."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rlnas.errors import MeterError

BUSY_SHARE = 0.25
"""Cores that others may use, on average, before a machine counts as busy."""
POLL_S = 0.05


@cache
def processor_name() -> str:
    """Name of the CPU, as precisely as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name") and ":" in line)
    return next(names, "") or platform.processor() or platform.machine()


# ------------------------------------------------------------------------------------------------------ exclusive use


def lock_path(device: str) -> Path:
    """The file that processes of this machine lock while they measure on a device."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", device).strip("-")[:40]
    digest = hashlib.blake2b(device.encode(), digest_size=4).hexdigest()
    return Path(tempfile.gettempdir()) / f"rlnas-measuring-{name}-{digest}.lock"


@contextmanager
def exclusive(device: str, *, wait_s: float, sleep: Callable[[float], None] = time.sleep) -> Iterator[None]:
    """Let only one process of this machine measure on a device at a time.

    The lock is the system's: it ends with the process that holds it, however that ends.

    Args:
        device: What must not be shared, such as ``"cpu"``.
        wait_s: Longest time to wait for another process.

    Raises:
        MeterError: If another process does not finish in time, or there is no place for the lock.
    """
    path = lock_path(device)
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except PermissionError:
        file = _open_for_reading(path)  # another user's; enough to lock it
    except OSError as error:
        raise MeterError(f"cannot lock {device} for measuring: {path}: {error.strerror}") from None
    try:
        _wait_for(file, path, device, wait_s, sleep)
        _sign(file)
        yield
    finally:
        os.close(file)


def _open_for_reading(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise MeterError(f"cannot lock {path} for measuring: {error.strerror}") from None


def _wait_for(file: int, path: Path, device: str, wait_s: float, sleep: Callable[[float], None]) -> None:
    waited = 0.0
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if waited >= wait_s:
                holder = os.pread(file, 20, 0).decode(errors="replace").strip()
                who = f"process {holder}" if holder.isdigit() else "another process"
                raise MeterError(
                    f"{who} has been measuring latency on {device} for more than {wait_s:g} s, and two at once would "
                    f"disturb each other; stop it, or wait longer (it holds {path})"
                ) from None
        except OSError as error:
            raise MeterError(f"cannot lock {path} for measuring: {error.strerror}") from None
        sleep(POLL_S)
        waited += POLL_S


def _sign(file: int) -> None:
    """Write who holds the lock; for messages only."""
    try:
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
    except OSError:  # opened for reading, or a full disk
        pass


# ------------------------------------------------------------------------------------------------------ a busy machine


@dataclass(frozen=True)
class Usage:
    """Readings of the machine's clocks, in seconds.

    Attributes:
        wall: Time that has passed.
        thread: CPU time of this thread.
        process: CPU time of this process.
        machine: CPU time of all processes; None where the system does not tell it.
    """

    wall: float
    thread: float
    process: float
    machine: float | None

    @classmethod
    def now(cls) -> Usage:
        """The readings at this moment."""
        return cls(time.perf_counter(), time.thread_time(), time.process_time(), _machine_time())

    def others(self, later: Usage) -> float | None:
        """Cores that other processes used between two readings, on average; None if not known."""
        wall = later.wall - self.wall
        if self.machine is None or later.machine is None or wall <= 0:
            return None
        return max(0.0, (later.machine - self.machine - (later.process - self.process)) / wall)

    def busy(self, later: Usage) -> str | None:
        """A warning if others used the machine between two readings.

        It needs an interval well above the hundredths of a second in which the system counts.
        """
        others = self.others(later)
        if others is not None and others > BUSY_SHARE:
            return f"busy machine: other processes used {others:.1f} of {os.cpu_count() or 1} cores meanwhile"
        return None


def _machine_time() -> float | None:
    """CPU seconds of everything that runs here, time stolen by other virtual machines included."""
    try:
        with open("/proc/stat") as file:
            words = file.readline().split()
        user, nice, system, _idle, _wait, irq, softirq, steal = map(int, words[1:9])
    except (OSError, ValueError):
        return None
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
