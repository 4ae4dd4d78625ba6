"""Worker processes that evaluate in parallel, and survive candidates that crash or hang them."""

from __future__ import annotations

import math
import multiprocessing
import os
import pickle
import time
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from multiprocessing import connection
from typing import Any

from rlnas.errors import ConfigError, EvaluationError
from rlnas.evaluation.jobs import Job, Outcome
from rlnas.evaluation.metrics import Evaluation, Evaluator
from rlnas.evaluation.process import START_LIMIT_S, State, Worker
from rlnas.evaluation.starts import StartLibrary
from rlnas.evaluation.worker import pack, unpack
from rlnas.tasks import Task

FAILED_STARTS = 3


@dataclass(frozen=True)
class Ended:
    """A job that came to an end.

    Attributes:
        job: Its index.
        outcome: Its outcome.
        died: True if the process died, so that another try may go better.
    """

    job: int
    outcome: Outcome
    died: bool


class WorkerPool:
    """An executor with processes of its own, each on one thread.

    A process that ends in the middle of a job is replaced and the job is tried again, once; a job over the time limit
    is ended with its process. Either becomes a failed evaluation. Workers ignore Ctrl-C and end with the main process,
    however that ends. As always with spawned processes, a script must do its work under
    ``if __name__ == "__main__":``.

    Args:
        workers: Number of processes.
        time_limit_s: Longest time for one job; None for no limit.
        retries: How often a job is tried again after its process died.

    Raises:
        ConfigError: If an argument is out of range.
    """

    def __init__(self, workers: int, *, time_limit_s: float | None = None, retries: int = 1) -> None:
        if workers < 1:
            raise ConfigError(f"workers={workers} must be at least 1")
        if time_limit_s is not None and not time_limit_s > 0:
            raise ConfigError(f"time_limit_s={time_limit_s} must be above 0")
        if retries < 0:
            raise ConfigError(f"retries={retries} must be at least 0")
        self._count = workers
        self._limit_s = math.inf if time_limit_s is None else time_limit_s
        self._retries = retries
        self._workers: list[Worker] = []
        self._owner = os.getpid()
        self._setup: tuple[Evaluator, Task] | None = None
        self._setups = 0
        self._failed_starts = 0

    def __reduce__(self) -> tuple[Any, ...]:
        limit = None if math.isinf(self._limit_s) else self._limit_s
        return _remake, (self._count, limit, self._retries)  # a copy starts processes of its own, if it needs any

    # ---------------------------------------------------------------------------------------------------- executor

    def start(self, evaluator: Evaluator, task: Task) -> None:
        """Launch all processes and return at once; they import what they need meanwhile."""
        self._use(evaluator, task)
        self._launch(self._count)

    def run(
        self, jobs: Sequence[Job], *, evaluator: Evaluator, task: Task, starts: StartLibrary
    ) -> Generator[tuple[int, Outcome]]:
        """Carry out all jobs; see `rlnas.evaluation.Executor`.

        Raises:
            EvaluationError: If processes end before they can take a job.
        """
        self._use(evaluator, task)
        waiting, tries, left = deque(range(len(jobs))), [0] * len(jobs), len(jobs)
        try:
            while left:
                self._launch(min(self._count, left))
                for worker in [w for w in self._workers if w.state is State.IDLE]:
                    if waiting and self._assign(worker, waiting[0], jobs, starts):
                        tries[waiting.popleft()] += 1
                ended = self._next()
                if ended is None:
                    continue
                if ended.died and tries[ended.job] <= self._retries:
                    waiting.appendleft(ended.job)
                    continue
                left -= 1
                yield ended.job, ended.outcome
        finally:
            for worker in [w for w in self._workers if w.state is State.BUSY]:
                self._drop(worker)

    def settle(self) -> None:
        """Wait until all launched processes have nothing left to do but wait."""
        while any(worker.state is not State.IDLE for worker in self._workers):
            self._next()

    def close(self) -> None:
        """End all processes."""
        if self._owner == os.getpid():
            for worker in list(self._workers):
                self._drop(worker)

    # --------------------------------------------------------------------------------------------------- processes

    def _use(self, evaluator: Evaluator, task: Task) -> None:
        if self._owner != os.getpid():  # this process was forked: the workers are its parent's
            self._workers, self._owner = [], os.getpid()
        if self._setup is None or self._setup[0] is not evaluator or self._setup[1] is not task:
            self._setup, self._setups = (evaluator, task), self._setups + 1

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

    def _prepare(self, worker: Worker) -> None:
        # Pickled for each process anew: keeping the bytes would double the memory that large data take.
        message = pack({"kind": "setup"}, pickle.dumps(self._setup, protocol=pickle.HIGHEST_PROTOCOL))
        worker.setup = self._setups
        worker.enter(State.PREPARING, limit_s=START_LIMIT_S)
        worker.send(message)  # a process that is gone is noticed when its answer is awaited

    def _assign(self, worker: Worker, index: int, jobs: Sequence[Job], starts: StartLibrary) -> bool:
        """Give a job to an idle worker; False if it has to be prepared first or is gone."""
        if worker.setup != self._setups:
            self._prepare(worker)
            return False
        start_id = jobs[index].candidate.start_id
        messages = [pack({"kind": "job", "job": jobs[index].to_json()})]
        if start_id not in worker.starts:
            messages.insert(0, pack({"kind": "start", "id": start_id}, starts.get(start_id).to_bytes()))
            worker.starts.add(start_id)
        if not all(worker.send(message) for message in messages):
            self._drop(worker)
            return False
        worker.job = index
        worker.enter(State.BUSY, limit_s=self._limit_s)
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
            self._prepare(worker)
        elif header["kind"] == "ready":
            self._failed_starts = 0
            worker.enter(State.IDLE)
        elif header["kind"] == "broken":
            self._drop(worker)
            if header["what"] == "start" or worker.setup == self._setups:  # else it was for an earlier run
                what = "the evaluator and the task" if header["what"] == "setup" else "a start network"
                raise EvaluationError(f"a worker process cannot take over {what}: {header['reason']}")
        else:
            worker.enter(State.IDLE)
            return Ended(worker.job, Outcome.from_message(header, body), died=False)
        return None

    def _death(self, worker: Worker) -> Ended | None:
        code = self._drop(worker, grace_s=1.0)
        if worker.state is State.BUSY:
            return self._failure(worker, f"worker died (exit code {code})", died=True)
        if worker.state is not State.IDLE:
            self._start_failed(f"ended while {worker.state.value} (exit code {code})")
        return None

    def _overrun(self, worker: Worker) -> Ended | None:
        self._drop(worker)
        if worker.state is State.BUSY:
            return self._failure(worker, f"took longer than {self._limit_s:g} s", died=False)
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
    def _failure(worker: Worker, reason: str, *, died: bool) -> Ended:
        return Ended(worker.job, Outcome(Evaluation.failed(reason), worker.interval, "process"), died)


def _remake(workers: int, time_limit_s: float | None, retries: int) -> WorkerPool:
    return WorkerPool(workers, time_limit_s=time_limit_s, retries=retries)
