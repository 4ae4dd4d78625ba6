"""Workers on a Ray cluster: this machine's own or one that runs already, with the results of every other executor."""

from __future__ import annotations

import logging
import math
import os
import pickle
import signal
import socket
import threading
import time
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

from rlnas.errors import ConfigError, EvaluationError
from rlnas.evaluation.jobs import Job, Outcome
from rlnas.evaluation.metrics import Evaluation, Evaluator, one_line
from rlnas.evaluation.process import ENVIRONMENT, START_LIMIT_S, State
from rlnas.evaluation.queue import JobLimits, JobQueue
from rlnas.evaluation.starts import StartLibrary
from rlnas.evaluation.times import Interval
from rlnas.evaluation.worker import ClusterWorker, pack, unpack
from rlnas.tasks import Task

FAILED_STARTS: Final = 3
LOST_NODES: Final = 10
"""How often a job is begun anew because its node was lost, beside the tries that it has."""

KNOCK_S: Final = 3.0
SETTLE_S: Final = 60.0
LOCAL: Final = "local"


@dataclass(eq=False)
class Actor:
    """A worker on the cluster and what is known of it.

    Attributes:
        handle: Ray's handle.
        ref: Reference to the answer that is awaited; None if there is none.
        state: What it is doing.
        since: When that began, in seconds since the epoch.
        deadline: When it has to be over, on the monotonic clock.
        setup: Number of the setup that it has.
        job: Number of the job it is working on.
        jobs: How many jobs it was given.
        starts: Names of the start networks that it has.
        node: Name of the node that it is on; empty as long as that is not known.
    """

    handle: Any
    ref: Any = None
    state: State = State.STARTING
    since: float = 0.0
    deadline: float = math.inf
    setup: int = 0
    job: int = -1
    jobs: int = 0
    starts: set[str] = field(default_factory=set)
    node: str = ""

    def enter(self, state: State, ref: Any, *, limit_s: float = math.inf) -> None:
        """Begin something new that may take so long."""
        self.state, self.ref = state, ref
        self.since, self.deadline = time.time(), time.monotonic() + limit_s

    @property
    def interval(self) -> Interval:
        """From the beginning of what it is doing until now."""
        return self.since, time.time()


class RayExecutor:
    """An executor whose workers are Ray actors, each on one processor and one thread.

    Candidates travel as JSON, networks as safetensors; the evaluator and the task are pickled by this process, so the
    nodes of a cluster must have the same version of rlnas installed. A worker that dies is replaced and its job tried
    again, ``retries`` times; a node that is lost costs the jobs in work there, which are begun anew.

    Args:
        workers: Number of actors; where the cluster has fewer processors, those that find one do the work.
        address: Address of a running cluster, such as ``auto`` or ``10.0.0.1:6379``; ``local`` starts one on this
            machine, which ends with this process.
        limits: Time, memory and tries that a job has.

    Raises:
        ConfigError: If an argument is out of range, or Ray is not installed.
    """

    def __init__(self, workers: int, *, address: str = LOCAL, limits: JobLimits | None = None) -> None:
        if workers < 1:
            raise ConfigError(f"workers={workers} must be at least 1")
        _ray()
        self._count = workers
        self._address = address
        self._limits = limits or JobLimits()
        self._actors: list[Actor] = []
        self._queue = JobQueue()
        self._packed: dict[int, Any] = {}  # reference to a pickled setup by its number
        self._starts: dict[str, Any] = {}  # reference to a start network by its name
        self._lost: dict[int, int] = {}  # nodes lost by number of the job
        self._owner = os.getpid()
        self._connected = self._own = False
        self._failed_starts = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return _remake, (self._count, self._address, self._limits)

    # ---------------------------------------------------------------------------------------------------- executor

    def start(self, evaluator: Evaluator, task: Task) -> None:
        """Connect, let all actors start, and return; they import what they need meanwhile."""
        self._connect()
        self._queue.use(evaluator, task)
        self._launch(self._count)

    def submit(self, jobs: Sequence[Job], *, evaluator: Evaluator, task: Task, starts: StartLibrary) -> list[int]:
        """Take jobs; see `rlnas.evaluation.Executor`."""
        numbers = self._queue.add(jobs, evaluator=evaluator, task=task, starts=starts)
        if jobs:
            self._connect()
            self._assign_all()
        return numbers

    def next(self) -> tuple[int, Outcome] | None:
        """Wait for the next job to end; None if there is nothing left to be done.

        Raises:
            EvaluationError: If actors end before they can take a job, or the cluster cannot be reached any more.
        """
        while self._queue.jobs:
            self._assign_all()
            ended = self._next()
            if ended is None:
                continue
            number, outcome = ended
            entry = self._queue.jobs.pop(number)
            self._lost.pop(number, None)
            self._assign_all()  # before the caller does anything with the outcome
            return number, replace(outcome, tries=entry.tries)
        return None

    def cancel(self, numbers: Collection[int]) -> None:
        """Give up jobs; actors that work on them are ended."""
        if self._owner != os.getpid():
            return
        self._queue.cancel(numbers)
        for actor in [a for a in self._actors if a.state is State.BUSY and a.job in numbers]:
            self._drop(actor)

    def settle(self) -> None:
        """Wait until all actors that found a processor have nothing left to do but wait."""
        limit = time.monotonic() + SETTLE_S
        while any(a.state is not State.IDLE for a in self._actors) and time.monotonic() < limit:
            self._next(limit_s=1.0)

    def close(self) -> None:
        """End all actors, and the cluster if it is this executor's own."""
        if self._owner != os.getpid():
            return
        self._queue.cancel(list(self._queue.jobs))
        for actor in list(self._actors):
            self._drop(actor)
        self._packed, self._starts = {}, {}
        if self._own:
            _ray().shutdown()
        self._connected = self._own = False

    # ------------------------------------------------------------------------------------------------------ actors

    def _connect(self) -> None:
        ray = _ray()
        if self._owner != os.getpid():
            raise EvaluationError("a forked process cannot use its parent's Ray workers; make the service anew in it")
        if self._connected:
            return
        if not ray.is_initialized():
            where = {"num_cpus": self._count, "include_dashboard": False} if self._address == LOCAL else {}
            try:
                _knock(self._address)
                with _quiet():
                    ray.init(address=self._address, log_to_driver=False, logging_level=logging.ERROR, **where)
            except (ConnectionError, OSError, RuntimeError, ValueError) as error:
                raise EvaluationError(
                    f"cannot reach a Ray cluster at address={self._address!r}: {one_line(error)}"
                ) from None
            self._own = True
        self._connected = True

    def _launch(self, count: int) -> None:
        ray = _ray()
        while len(self._actors) < count:
            remote = ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)(ClusterWorker)
            actor = Actor(remote.remote())
            self._actors.append(actor)
            self._prepare(actor, self._queue.newest, State.STARTING)

    def _prepare(self, actor: Actor, setup: int, state: State) -> None:
        if setup not in self._packed:
            pickled = pickle.dumps(self._queue.setups[setup], protocol=pickle.HIGHEST_PROTOCOL)
            self._packed = {n: ref for n, ref in self._packed.items() if n in self._queue.setups}
            self._packed[setup] = _ray().put(pickled)
        actor.setup = setup
        ref = actor.handle.set_up.remote(self._packed[setup], self._limits.memory_limit_mb)
        actor.enter(state, ref, limit_s=START_LIMIT_S)

    def _drop(self, actor: Actor) -> None:
        self._actors.remove(actor)
        _ray().kill(actor.handle)

    def _assign_all(self) -> None:
        """Launch actors that are missing, and give waiting jobs to idle ones."""
        self._launch(min(self._count, len(self._queue.jobs)))
        for actor in [a for a in self._actors if a.state is State.IDLE]:
            if not self._queue.waiting:
                return
            entry = self._queue.jobs[self._queue.waiting[0]]
            if actor.setup != entry.setup:
                self._prepare(actor, entry.setup, State.PREPARING)
                continue
            start_id = entry.job.candidate.start_id
            if start_id not in self._starts:
                self._starts[start_id] = _ray().put(entry.starts.get(start_id).to_bytes())
            new = start_id not in actor.starts
            actor.starts.add(start_id)
            entry.tries += 1
            actor.job, actor.jobs = self._queue.waiting.popleft(), actor.jobs + 1
            ref = actor.handle.carry_out.remote(
                pack({"job": entry.job.to_json()}), self._starts[start_id] if new else None
            )
            actor.enter(State.BUSY, ref, limit_s=self._limits.seconds)

    # ------------------------------------------------------------------------------------------------------ events

    def _next(self, *, limit_s: float = math.inf) -> tuple[int, Outcome] | None:
        """Wait for one answer, death or overrun, and deal with it; gives the job that it ended, if any."""
        ray = _ray()
        waiting = {a.ref: a for a in self._actors if a.ref is not None}
        if not waiting:
            return None
        next_to_end = min(waiting.values(), key=lambda actor: actor.deadline)
        left_s = min(limit_s, max(0.0, next_to_end.deadline - time.monotonic()))
        ready, _ = ray.wait(list(waiting), num_returns=1, timeout=None if math.isinf(left_s) else left_s)
        if not ready:
            return self._overrun(next_to_end) if time.monotonic() >= next_to_end.deadline else None
        actor = waiting[ready[0]]
        try:
            header, body = unpack(ray.get(ready[0]))
        except (ray.exceptions.RayActorError, ray.exceptions.RayTaskError, ray.exceptions.OutOfMemoryError) as error:
            return self._death(actor, error)
        except ray.exceptions.RayError as error:
            raise EvaluationError(f"the Ray cluster does not answer any more: {one_line(error)}") from None
        return self._answer(actor, header, body)

    def _answer(self, actor: Actor, header: dict[str, Any], body: bytes) -> tuple[int, Outcome] | None:
        if actor.state is not State.BUSY:
            if "broken" in header:
                self._drop(actor)
                if header["what"] == "memory":
                    raise EvaluationError(header["broken"])
                if self._queue.needs(actor.setup):
                    raise EvaluationError(
                        f"a Ray worker cannot take over the evaluator and the task: {header['broken']}"
                    )
                return None
            self._failed_starts = 0
            actor.node = header["node"]
            actor.enter(State.IDLE, None)
            return None
        if "broken" in header:
            self._drop(actor)
            raise EvaluationError(f"a Ray worker cannot take over a start network: {header['broken']}")
        actor.enter(State.IDLE, None)
        outcome, first = Outcome.from_message(header, body), actor.jobs == 1
        if outcome.out_of_memory:  # what earlier jobs left behind, and what this one leaves, goes with the process
            self._drop(actor)
            if not first:
                self._again(actor)
                return None
        return actor.job, outcome

    def _death(self, actor: Actor, error: Exception) -> tuple[int, Outcome] | None:
        self._drop(actor)
        if actor.state is State.BUSY:
            entry, lost = self._queue.jobs[actor.job], self._lost.get(actor.job, 0)
            if lost < LOST_NODES and _is_lost(actor.node):
                self._lost[actor.job] = lost + 1
                entry.tries -= 1
                self._again(actor)
                return None
            if entry.tries <= self._limits.retries:
                self._again(actor)
                return None
            return actor.job, Outcome(Evaluation.failed("worker died"), actor.interval, "ray")
        self._failed_starts += 1
        if self._failed_starts >= FAILED_STARTS:
            self._failed_starts = 0
            raise EvaluationError(
                f"{FAILED_STARTS} Ray workers in a row ended while {actor.state.value}; is the same version of rlnas "
                f"installed on every node? Ray says: {one_line(error)}"
            )
        return None

    def _again(self, actor: Actor) -> None:
        self._queue.waiting.appendleft(actor.job)

    def _overrun(self, actor: Actor) -> tuple[int, Outcome] | None:
        if actor.state is State.BUSY:
            self._drop(actor)
            reason = f"took longer than {self._limits.seconds:g} s"
            return actor.job, Outcome(Evaluation.failed(reason), actor.interval, "ray")
        if any(other.state in (State.IDLE, State.BUSY) for other in self._actors):
            actor.deadline = math.inf  # it waits for a processor, and others do the work
            return None
        self._drop(actor)
        raise EvaluationError(
            f"no Ray worker could start within {START_LIMIT_S:g} s: has the cluster a free processor? (ray status)"
        )


def _ray() -> Any:
    """The package, which is an extra.

    Raises:
        ConfigError: If it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else Ray warns that it will be so
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise ConfigError(f"evaluation on Ray needs the package ray ({error}): pip install 'rlnas[ray]'") from None
    return ray


def _knock(address: str) -> None:
    """Raise OSError if nothing answers at an address of the form host:port, which Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_S).close()


def _is_lost(node: str) -> bool:
    """True if a node of the cluster is gone; the cluster itself notices that only after some seconds."""
    for known in _ray().nodes():
        if known["NodeID"] == node and known["Alive"]:
            try:
                _knock(f"{known['NodeManagerAddress']}:{known['NodeManagerPort']}")
            except OSError:
                return True
            return False
    return True


@contextmanager
def _quiet() -> Iterator[None]:
    """What a cluster that is started here inherits (one thread a process); no warnings, no signal handler of Ray's."""
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM) if main else None
    os.environ.update(ENVIRONMENT)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if handler is not None:
            signal.signal(signal.SIGTERM, handler)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _remake(workers: int, address: str, limits: JobLimits) -> RayExecutor:
    return RayExecutor(workers, address=address, limits=limits)
