"""A worker process as the pool sees it: what it is doing, since when, and what it was sent."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

from rlnas.evaluation.times import Interval
from rlnas.evaluation.worker import work

START_LIMIT_S = 180.0
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


class State(Enum):
    """What a worker process is doing."""

    STARTING = "importing"
    PREPARING = "taking over evaluator and task"
    IDLE = "waiting for a job"
    BUSY = "working on a job"


@dataclass(eq=False)
class Worker:
    """A process and what is known of it.

    Attributes:
        process: The process.
        pipe: To and from it.
        state: What it is doing.
        since: When that began, in seconds since the epoch.
        deadline: When it has to be over, on the monotonic clock.
        job: Number of the job it is working on.
        jobs: How many jobs it was given.
        setup: Number of the setup that it has.
        starts: Names of the start networks that it has.
    """

    process: SpawnProcess
    pipe: Connection
    state: State = State.IDLE
    since: float = 0.0
    deadline: float = math.inf
    job: int = -1
    jobs: int = 0
    setup: int = 0
    starts: set[str] = field(default_factory=set)

    @classmethod
    def launch(cls) -> Worker:
        """Start a process; it says ``hello`` when it has imported what it needs."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs,), daemon=True, name="rlnas-worker")
        with _child_settings():
            process.start()
        theirs.close()
        worker = cls(process, ours)
        worker.enter(State.STARTING, limit_s=START_LIMIT_S)
        return worker

    def enter(self, state: State, *, limit_s: float = math.inf) -> None:
        """Begin something new that may take so long."""
        self.state, self.since, self.deadline = state, time.time(), time.monotonic() + limit_s

    @property
    def interval(self) -> Interval:
        """From the beginning of what it is doing until now."""
        return self.since, time.time()

    def send(self, message: bytes) -> bool:
        """Send a message; False if the process is gone."""
        try:
            self.pipe.send_bytes(message)
        except OSError:
            return False
        return True

    def receive(self) -> bytes | None:
        """Take a message that waits; None if the process is gone."""
        try:
            return self.pipe.recv_bytes() if self.pipe.poll() else None
        except (EOFError, OSError):
            return None

    def end(self, *, grace_s: float = 0.0) -> int | None:
        """End the process, by force if it does not end by itself within ``grace_s``; gives its exit code."""
        self.process.join(grace_s)
        self.process.kill()
        self.process.join()
        code = self.process.exitcode
        self.process.close()
        self.pipe.close()
        return code


@contextmanager
def _child_settings() -> Iterator[None]:
    """What a process inherits when it is started: one thread, and Ctrl-C blocked even while it imports."""
    resource_tracker.ensure_running()  # else the first process starts it, which lets Ctrl-C through again
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if hasattr(signal, "pthread_sigmask") else None
    os.environ.update(ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
