"""Jobs that wait or are in work elsewhere, and what each of them may use."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from rlnas.errors import ConfigError
from rlnas.evaluation.jobs import Job
from rlnas.evaluation.metrics import Evaluator
from rlnas.evaluation.starts import StartLibrary
from rlnas.tasks import Task


@dataclass(frozen=True)
class JobLimits:
    """What one evaluation may use.

    Attributes:
        time_limit_s: Longest time; None for no limit.
        memory_limit_mb: Megabytes that its process may take, what it takes before the evaluation included; None for no
            limit.
        retries: How often it is tried again after its process died.

    Raises:
        ConfigError: If a value is out of range.
    """

    time_limit_s: float | None = None
    memory_limit_mb: float | None = None
    retries: int = 1

    def __post_init__(self) -> None:
        if self.time_limit_s is not None and not self.time_limit_s > 0:
            raise ConfigError(f"time_limit_s={self.time_limit_s} must be above 0")
        if self.memory_limit_mb is not None and not self.memory_limit_mb > 0:
            raise ConfigError(f"memory_limit_mb={self.memory_limit_mb} must be above 0")
        if self.retries < 0:
            raise ConfigError(f"retries={self.retries} must be at least 0")

    @property
    def seconds(self) -> float:
        """The time limit, infinite if there is none."""
        return math.inf if self.time_limit_s is None else self.time_limit_s


@dataclass
class Entry:
    """A job that is not done.

    Attributes:
        job: The job.
        setup: Number of its evaluator and task.
        starts: Where its start network is.
        tries: How often it was begun.
    """

    job: Job
    setup: int
    starts: StartLibrary
    tries: int = 0


class JobQueue:
    """Jobs by number, those that wait in order, and the pairs of evaluator and task that they are for.

    Attributes:
        jobs: All jobs that are not done.
        waiting: Numbers of those that nothing works on.
        setups: Evaluator and task by number.
        newest: Number of the pair used last.
    """

    def __init__(self) -> None:
        self.jobs: dict[int, Entry] = {}
        self.waiting: deque[int] = deque()
        self.setups: dict[int, tuple[Evaluator, Task]] = {}
        self.newest = 0
        self._numbers = 0

    def use(self, evaluator: Evaluator, task: Task) -> int:
        """Number of a pair of evaluator and task; forgets those that no job needs."""
        known = self.setups.get(self.newest)
        if known is None or known[0] is not evaluator or known[1] is not task:
            self.newest += 1
            needed = {entry.setup for entry in self.jobs.values()}
            self.setups = {number: pair for number, pair in self.setups.items() if number in needed}
            self.setups[self.newest] = (evaluator, task)
        return self.newest

    def needs(self, setup: int) -> bool:
        """True if a job is for that pair, or the next one may be."""
        return setup == self.newest or any(entry.setup == setup for entry in self.jobs.values())

    def add(self, jobs: Sequence[Job], *, evaluator: Evaluator, task: Task, starts: StartLibrary) -> list[int]:
        """Let jobs wait; gives their numbers."""
        setup = self.use(evaluator, task)
        numbers = list(range(self._numbers, self._numbers + len(jobs)))
        self._numbers += len(jobs)
        self.jobs.update((n, Entry(job, setup, starts)) for n, job in zip(numbers, jobs, strict=True))
        self.waiting.extend(numbers)
        return numbers

    def cancel(self, numbers: Collection[int]) -> None:
        """Forget jobs."""
        gone = set(numbers)
        self.jobs = {number: entry for number, entry in self.jobs.items() if number not in gone}
        self.waiting = deque(number for number in self.waiting if number not in gone)
