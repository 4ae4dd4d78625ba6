"""One evaluation as plain data, so that it can be sent to another process, and how it is carried out."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import torch

from rlnas.evaluation.build import build_with_parent, fresh_network
from rlnas.evaluation.environment import environment
from rlnas.evaluation.metrics import Candidate, Evaluation, Evaluator, Metrics, Taught, evaluator_of, one_line
from rlnas.evaluation.starts import StartLibrary
from rlnas.evaluation.times import Interval
from rlnas.latency import torch_threads
from rlnas.network import Network
from rlnas.tasks import Task

OUT_OF_MEMORY: Final = ("can't allocate memory", "cannot allocate memory", "not enough memory", "bad_alloc")
"""What PyTorch says when the host has no memory left."""


@dataclass(frozen=True)
class Job:
    """An evaluation to be done.

    Attributes:
        candidate: What to evaluate.
        seed: Seed of the training.
        keep: Whether the trained network is wanted.
    """

    candidate: Candidate
    seed: int
    keep: bool

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"candidate": self.candidate.to_json(), "seed": self.seed, "keep": self.keep}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Job:
        """Inverse of `to_json`."""
        return cls(Candidate.from_json(data["candidate"]), int(data["seed"]), bool(data["keep"]))


@dataclass(frozen=True)
class Outcome:
    """A job that is done.

    Attributes:
        evaluation: Its result.
        interval: When it was worked on.
        worker: What worked on it.
        environment: Machine and versions that it was worked on with, as JSON; None if that is not known.
        parent: Canonical hash of the graph that the last edit was made to.
        tries: How often it was begun.
        out_of_memory: True if it failed for lack of memory.
        packed: The trained network as bytes, and its content hash, where they are known already.
    """

    evaluation: Evaluation
    interval: Interval
    worker: str
    environment: str | None = None
    parent: str | None = None
    tries: int = 1
    out_of_memory: bool = False
    packed: tuple[bytes, str] | None = None

    def to_message(self) -> tuple[dict[str, Any], bytes]:
        """Plain JSON types, and the trained network as safetensors (empty if there is none)."""
        found = self.evaluation
        header = {
            "metrics": None if found.metrics is None else found.metrics.to_json(),
            "status": found.status,
            "reason": found.reason,
            "interval": list(self.interval),
            "worker": self.worker,
            "environment": self.environment,
            "parent": self.parent,
            "out_of_memory": self.out_of_memory,
            "content_hash": None if found.trained is None else found.trained.content_hash,
        }
        return header, b"" if found.trained is None else found.trained.to_bytes()

    @classmethod
    def from_message(cls, header: Mapping[str, Any], weights: bytes) -> Outcome:
        """Inverse of `to_message`."""
        metrics = None if header["metrics"] is None else Metrics.from_json(header["metrics"])
        trained = Network.from_bytes(weights) if weights else None
        evaluation = Evaluation(metrics, header["status"], header["reason"], trained)
        return cls(
            evaluation,
            (header["interval"][0], header["interval"][1]),
            header["worker"],
            header["environment"],
            header["parent"],
            out_of_memory=header["out_of_memory"],
            packed=(weights, header["content_hash"]) if weights else None,
        )

    def pack_trained(self) -> tuple[bytes, str] | None:
        """The trained network as bytes, and its content hash; None if there is none."""
        trained = self.evaluation.trained
        if self.packed is not None or trained is None:
            return self.packed
        return trained.to_bytes(), trained.content_hash


class Executor(Protocol):
    """Carries out jobs, here or elsewhere. All give the same results; they differ in where and how many at once."""

    def start(self, evaluator: Evaluator, task: Task) -> None:
        """Begin to make ready, and return at once."""
        ...

    def submit(self, jobs: Sequence[Job], *, evaluator: Evaluator, task: Task, starts: StartLibrary) -> list[int]:
        """Take jobs to be carried out, and return at once; gives a number for each."""
        ...

    def next(self) -> tuple[int, Outcome] | None:
        """Wait for the next job to end: (its number, its outcome); None if there is nothing left to be done.

        Raises:
            EvaluationError: If jobs cannot be carried out at all.
        """
        ...

    def cancel(self, numbers: Collection[int]) -> None:
        """Give up jobs, those in work too; `next` will not give them."""
        ...

    def settle(self) -> None:
        """Wait until nothing of this executor uses the processor."""
        ...

    def close(self) -> None:
        """Let go of processes; the next `run` or `start` makes new ones."""
        ...


class InlineExecutor:
    """Carries out jobs in this process, one after the other, when the next one is asked for."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, Job, Evaluator, Task, StartLibrary]] = deque()
        self._numbers = 0

    def start(self, evaluator: Evaluator, task: Task) -> None:
        """Nothing is to be made ready."""

    def submit(self, jobs: Sequence[Job], *, evaluator: Evaluator, task: Task, starts: StartLibrary) -> list[int]:
        """Note jobs; nothing is done yet."""
        numbers = list(range(self._numbers, self._numbers + len(jobs)))
        self._waiting.extend((n, job, evaluator, task, starts) for n, job in zip(numbers, jobs, strict=True))
        self._numbers += len(jobs)
        return numbers

    def next(self) -> tuple[int, Outcome] | None:
        """Carry out the oldest job; None if there is none."""
        if not self._waiting:
            return None
        number, job, evaluator, task, starts = self._waiting.popleft()
        return number, carry_out(job, start=starts.get(job.candidate.start_id), evaluator=evaluator, task=task)

    def cancel(self, numbers: Collection[int]) -> None:
        """Forget jobs."""
        self._waiting = deque(entry for entry in self._waiting if entry[0] not in numbers)

    def settle(self) -> None:
        """Nothing runs beside the caller."""

    def close(self) -> None:
        """Forget all jobs."""
        self._waiting.clear()


def carry_out(job: Job, *, start: Network, evaluator: Evaluator, task: Task, worker: str = "inline") -> Outcome:
    """Build the candidate and evaluate it; whatever goes wrong with it becomes a failed evaluation."""
    started = time.time()
    parent, exhausted = None, False
    try:
        with torch_threads(1):
            if job.candidate.fresh:
                network = fresh_network(job.candidate.graph, seed=job.seed)
            else:
                network, parent = build_with_parent(job.candidate, start, task)
            judge = evaluator_of(evaluator, job.candidate)
            judge = judge.taught_by(start) if isinstance(judge, Taught) else judge
            evaluation = judge.evaluate(network, seed=job.seed)
        if not job.keep:
            evaluation = replace(evaluation, trained=None)
    except Exception as error:  # a candidate must not end the search
        exhausted = is_out_of_memory(error)
        evaluation = Evaluation.failed(f"out of memory: {one_line(error)}" if exhausted else one_line(error))
    interval = (started, time.time())
    return Outcome(evaluation, interval, worker, environment(), parent, out_of_memory=exhausted)


def is_out_of_memory(error: Exception) -> bool:
    """True if an exception says that memory could not be had, on the host or on a device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    words = str(error).lower()
    return isinstance(error, RuntimeError) and any(sign in words for sign in OUT_OF_MEMORY)
