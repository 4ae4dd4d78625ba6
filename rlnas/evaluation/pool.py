"""Worker processes that evaluate in parallel, and survive candidates that crash or hang them."""

from __future__ import annotations

import math
import multiprocessing
import os
import pickle
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from multiprocessing import connection
from typing import Any

from rlnas.errors import ConfigError, EvaluationError
from rlnas.evaluation.jobs import Job, Outcome
from rlnas.evaluation.metrics import Evaluation, Evaluator
from rlnas.evaluation.process import START_LIMIT_S, State, Worker
from rlnas.evaluation.queue import JobLimits, JobQueue
from rlnas.evaluation.starts import StartLibrary
from rlnas.evaluation.worker import pack, unpack
from rlnas.tasks import Task

FAILED_STARTS = 3


@dataclass(frozen=True)
class Ended:
    """A job that came to an end.

    Attributes:
        number: Its number.
        outcome: Its outcome.
        again: True if it is to be tried again.
    """

    number: int
    outcome: Outcome
    again: bool


class WorkerPool:
    """An executor with processes of its own, each on one thread.

    A process that ends in the middle of a job is replaced and the job is tried again, ``retries`` times; a job over the
    time limit is ended with its process. Either becomes a failed evaluation in the end. A job that runs out of memory
    fails too, once it has been tried in a process that no earlier job had used. Workers ignore Ctrl-C and end with the
    main process, however that ends. As always with spawned processes, a script must do its work under
    ``if __name__ == "__main__":``.

    Args:
        workers: Number of processes.
        limits: Time, memory and tries that a job has.

    Raises:
        ConfigError: If an argument is out of range.
    """

    def __init__(self, workers: int, *, limits: JobLimits | None = None) -> None:
        if workers < 1:
            raise ConfigError(f"workers={workers} must be at least 1")
        self._count = workers
        self._limits = limits or JobLimits()
        self._workers: list[Worker] = []
        self._owner = os.getpid()
        self._queue = JobQueue()
        self._failed_starts = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return _remake, (self._count, self._limits)  # a copy starts processes of its own, if it needs any

    # ---------------------------------------------------------------------------------------------------- executor

    def start(self, evaluator: Evaluator, task: Task) -> None:
        """Launch all processes and return at once; they import what they need meanwhile."""
        self._adopt()
        self._queue.use(evaluator, task)
        self._launch(self._count)

    def submit(self, jobs: Sequence[Job], *, evaluator: Evaluator, task: Task, starts: StartLibrary) -> list[int]:
        """Take jobs; see `rlnas.evaluation.Executor`."""
        self._adopt()
        numbers = self._queue.add(jobs, evaluator=evaluator, task=task, starts=starts)
        self._assign_all()
        return numbers

    def next(self) -> tuple[int, Outcome] | None:
        """Wait for the next job to end; None if there is nothing left to be done.

        Raises:
            EvaluationError: If processes end before they can take a job.
        """
        while self._queue.jobs:
            self._assign_all()
            ended = self._next()
            if ended is None:
                continue
            entry = self._queue.jobs[ended.number]
            if ended.again:
                self._queue.waiting.appendleft(ended.number)
                continue
            del self._queue.jobs[ended.number]
            self._assign_all()  # before the caller does anything with the outcome
            return ended.number, replace(ended.outcome, tries=entry.tries)
        return None

    def cancel(self, numbers: Collection[int]) -> None:
        """Give up jobs; processes that work on them are ended."""
        self._adopt()
        self._queue.cancel(numbers)
        for worker in [w for w in self._workers if w.state is State.BUSY and w.job in numbers]:
            self._drop(worker)

    def settle(self) -> None:
        """Wait until all launched processes have nothing left to do but wait."""
        while any(worker.state is not State.IDLE for worker in self._workers):
            self._next()

    def close(self) -> None:
        """End all processes and forget all jobs."""
        self._adopt()
        self._queue.cancel(list(self._queue.jobs))
        for worker in list(self._workers):
            self._drop(worker)

    # --------------------------------------------------------------------------------------------------- processes

    def _adopt(self) -> None:
        if self._owner != os.getpid():  # this process was forked: workers and jobs are its parent's
            self._workers, self._queue, self._owner = [], JobQueue(), os.getpid()

    def _launch(self, count: int) -> None:
        if multiprocessing.current_process().daemon:
            raise EvaluationError(
                "worker processes cannot be started inside a worker process (such as AsyncVectorEnv's); set workers=0"
            )
        while len(self._workers) < count:
            self._workers.append(Worker.launch())

    def _drop(self, worker: Worker, *, grace_s: float = 0.0) -> int | None:
        self._workers.remove(worker)
        return worker.end(grace_s=grace_s)

    def _assign_all(self) -> None:
        """Launch processes that are missing, and give waiting jobs to idle ones."""
        self._launch(min(self._count, len(self._queue.jobs)))
        for worker in [w for w in self._workers if w.state is State.IDLE]:
            if self._queue.waiting and self._assign(worker, self._queue.waiting[0]):
                self._queue.waiting.popleft()

    def _prepare(self, worker: Worker, setup: int) -> None:
        # Pickled for each process anew: keeping the bytes would double the memory that large data take.
        header = {"kind": "setup", "memory_limit_mb": self._limits.memory_limit_mb}
        message = pack(header, pickle.dumps(self._queue.setups[setup], protocol=pickle.HIGHEST_PROTOCOL))
        worker.setup = setup
        worker.enter(State.PREPARING, limit_s=START_LIMIT_S)
        worker.send(message)  # a process that is gone is noticed when its answer is awaited

    def _assign(self, worker: Worker, number: int) -> bool:
        """Give a job to an idle worker; False if it has to be prepared first or is gone."""
        entry = self._queue.jobs[number]
        if worker.setup != entry.setup:
            self._prepare(worker, entry.setup)
            return False
        start_id = entry.job.candidate.start_id
        messages = [pack({"kind": "job", "job": entry.job.to_json()})]
        if start_id not in worker.starts:
            messages.insert(0, pack({"kind": "start", "id": start_id}, entry.starts.get(start_id).to_bytes()))
            worker.starts.add(start_id)
        if not all(worker.send(message) for message in messages):
            self._drop(worker)
            return False
        entry.tries += 1
        worker.job, worker.jobs = number, worker.jobs + 1
        worker.enter(State.BUSY, limit_s=self._limits.seconds)
        return True

    # ------------------------------------------------------------------------------------------------------ events

    def _next(self) -> Ended | None:
        """Wait for one message, death or overrun, and deal with it; gives the job that it ended, if any."""
        if not self._workers:
            return None
        sources: dict[Any, Worker] = {}
        for worker in self._workers:
            sources[worker.pipe] = sources[worker.process.sentinel] = worker
        next_to_end = min(self._workers, key=lambda worker: worker.deadline)
        left_s = max(0.0, next_to_end.deadline - time.monotonic())
        ready = connection.wait(list(sources), timeout=None if math.isinf(left_s) else left_s)
        if not ready:
            return self._overrun(next_to_end)
        worker = sources[ready[0]]
        message = worker.receive()
        return self._death(worker) if message is None else self._message(worker, *unpack(message))

    def _message(self, worker: Worker, header: dict[str, Any], body: bytes) -> Ended | None:
        if header["kind"] == "hello":
            self._prepare(worker, self._queue.newest)
        elif header["kind"] == "ready":
            self._failed_starts = 0
            worker.enter(State.IDLE)
        elif header["kind"] == "broken":
            self._drop(worker)
            if header["what"] == "memory":
                raise EvaluationError(header["reason"])
            if header["what"] == "start" or self._queue.needs(worker.setup):  # else it was for an earlier batch
                what = "the evaluator and the task" if header["what"] == "setup" else "a start network"
                raise EvaluationError(f"a worker process cannot take over {what}: {header['reason']}")
        else:
            number, first = worker.job, worker.jobs == 1
            worker.enter(State.IDLE)
            if header[
                "out_of_memory"
            ]:  # what earlier jobs left behind, and what this one leaves, goes with the process
                self._drop(worker)
            else:
                self._assign_all()  # before the outcome is unpacked, so that nobody waits for that
            outcome = Outcome.from_message(header, body)
            return Ended(number, outcome, again=outcome.out_of_memory and not first)
        return None

    def _death(self, worker: Worker) -> Ended | None:
        code = self._drop(worker, grace_s=1.0)
        if worker.state is State.BUSY:
            again = self._queue.jobs[worker.job].tries <= self._limits.retries
            return self._failure(worker, f"worker died (exit code {code})", again=again)
        if worker.state is not State.IDLE:
            self._start_failed(f"ended while {worker.state.value} (exit code {code})")
        return None

    def _overrun(self, worker: Worker) -> Ended | None:
        self._drop(worker)
        if worker.state is State.BUSY:
            return self._failure(worker, f"took longer than {self._limits.seconds:g} s", again=False)
        self._start_failed(f"took longer than {START_LIMIT_S:g} s {worker.state.value}")
        return None

    def _start_failed(self, what: str) -> None:
        self._failed_starts += 1
        if self._failed_starts >= FAILED_STARTS:
            self._failed_starts = 0
            raise EvaluationError(
                f"{FAILED_STARTS} worker processes in a row {what}: is there memory enough, "
                'and does the script do its work under `if __name__ == "__main__":`?'
            )

    @staticmethod
    def _failure(worker: Worker, reason: str, *, again: bool) -> Ended:
        return Ended(worker.job, Outcome(Evaluation.failed(reason), worker.interval, "process"), again)


def _remake(workers: int, limits: JobLimits) -> WorkerPool:
    return WorkerPool(workers, limits=limits)
