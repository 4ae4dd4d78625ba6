"""One evaluation as plain data, so that it can be sent to another process, and how it is carried out."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from rlnas.evaluation.build import build
from rlnas.evaluation.metrics import Candidate, Evaluation, Evaluator, Metrics, Taught, one_line
from rlnas.evaluation.starts import StartLibrary
from rlnas.evaluation.times import Interval
from rlnas.latency import torch_threads
from rlnas.network import Network
from rlnas.tasks import Task


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
    """

    evaluation: Evaluation
    interval: Interval
    worker: str

    def to_message(self) -> tuple[dict[str, Any], bytes]:
        """Plain JSON types, and the trained network as safetensors (empty if there is none)."""
        found = self.evaluation
        header = {
            "metrics": None if found.metrics is None else found.metrics.to_json(),
            "status": found.status,
            "reason": found.reason,
            "interval": list(self.interval),
            "worker": self.worker,
        }
        return header, b"" if found.trained is None else found.trained.to_bytes()

    @classmethod
    def from_message(cls, header: Mapping[str, Any], weights: bytes) -> Outcome:
        """Inverse of `to_message`."""
        metrics = None if header["metrics"] is None else Metrics.from_json(header["metrics"])
        trained = Network.from_bytes(weights) if weights else None
        evaluation = Evaluation(metrics, header["status"], header["reason"], trained)
        return cls(evaluation, (header["interval"][0], header["interval"][1]), header["worker"])


class Executor(Protocol):
    """Carries out jobs, here or elsewhere. All give the same results; they differ in where and how many at once."""

    def start(self, evaluator: Evaluator, task: Task) -> None:
        """Begin to make ready, and return at once."""
        ...

    def run(
        self, jobs: Sequence[Job], *, evaluator: Evaluator, task: Task, starts: StartLibrary
    ) -> Generator[tuple[int, Outcome]]:
        """Carry out all jobs; gives (index of the job, outcome) as they end. Closing the iterator abandons the rest."""
        ...

    def settle(self) -> None:
        """Wait until nothing of this executor uses the processor."""
        ...

    def close(self) -> None:
        """Let go of processes; the next `run` or `start` makes new ones."""
        ...


class InlineExecutor:
    """Carries out jobs in this process, one after the other."""

    def start(self, evaluator: Evaluator, task: Task) -> None:
        """Nothing is to be made ready."""

    def run(
        self, jobs: Sequence[Job], *, evaluator: Evaluator, task: Task, starts: StartLibrary
    ) -> Generator[tuple[int, Outcome]]:
        """Carry out all jobs in their order."""
        for index, job in enumerate(jobs):
            yield index, carry_out(job, start=starts.get(job.candidate.start_id), evaluator=evaluator, task=task)

    def settle(self) -> None:
        """Nothing runs beside the caller."""

    def close(self) -> None:
        """There is nothing to let go of."""


def carry_out(job: Job, *, start: Network, evaluator: Evaluator, task: Task, worker: str = "inline") -> Outcome:
    """Build the candidate and evaluate it; whatever goes wrong with it becomes a failed evaluation."""
    started = time.time()
    try:
        with torch_threads(1):
            judge = evaluator.taught_by(start) if isinstance(evaluator, Taught) else evaluator
            evaluation = judge.evaluate(build(job.candidate, start, task), seed=job.seed)
        if not job.keep:
            evaluation = replace(evaluation, trained=None)
    except Exception as error:  # a candidate must not end the search
        evaluation = Evaluation.failed(one_line(error))
    return Outcome(evaluation, (started, time.time()), worker)
