"""The service: from candidates to evaluations, through cache, executor, store and meter."""

from __future__ import annotations

import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

import torch

from rlnas.errors import EvaluationError, GraphError
from rlnas.evaluation.build import parent_key, seed_from
from rlnas.evaluation.environment import environment
from rlnas.evaluation.jobs import Executor, InlineExecutor, Job, Outcome
from rlnas.evaluation.metrics import Candidate, Evaluation, Evaluator, evaluator_of
from rlnas.evaluation.pool import WorkerPool
from rlnas.evaluation.queue import JobLimits
from rlnas.evaluation.records import Record
from rlnas.evaluation.starts import StartLibrary
from rlnas.evaluation.store import Store
from rlnas.evaluation.times import Interval
from rlnas.graph import Graph
from rlnas.latency import Meter
from rlnas.network import Network
from rlnas.tasks import Task

OnResult = Callable[[int, Evaluation], None]


@dataclass(frozen=True)
class Request:
    """A candidate and the seed it is to be evaluated with."""

    candidate: Candidate
    seed: int

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise EvaluationError(f"seed={self.seed} must be at least 0 and below 2**63")


class Service:
    """Evaluates candidates: what is known is answered from the store, the rest is trained, then measured.

    The cache key is a hash of graph, start network, task, recipe and seed, and the training is seeded from it: results
    depend neither on the order of candidates nor on the number of workers. (Two sequences of edits that lead to one
    graph share a key; the one evaluated first decides the inherited weights.)

    Latency is measured when all training is done and nothing else runs.

    Args:
        evaluator: Judges networks.
        task: What they are for.
        starts: Start networks of the candidates.
        store: Where results are kept.
        workers: Processes that train; 0 trains in this process.
        limits: Time, memory and tries of one evaluation; they need workers to have an effect.
        meter: Measures latency; None leaves it unknown.
        executor: Carries out the training in the place of ``workers`` and ``limits``.
        kept: How many trained networks stay in memory.
        run: Name of the run, which the store notes with each evaluation.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        task: Task,
        *,
        starts: StartLibrary,
        store: Store,
        workers: int = 0,
        limits: JobLimits | None = None,
        meter: Meter | None = None,
        executor: Executor | None = None,
        kept: int = 64,
        run: str | None = None,
    ) -> None:
        self.evaluator = evaluator
        self.task = task
        self.starts = starts
        self.store = store
        self.meter = meter
        self.run = run
        self.training_intervals: list[Interval] = []
        self.measuring_intervals: list[Interval] = []
        if executor is None:
            executor = WorkerPool(workers, limits=limits) if workers else InlineExecutor()
        self._executor = executor
        self._kept = kept
        self._trained: OrderedDict[str, Network] = OrderedDict()
        self._meter_text: str | None = None
        self._numbers = 0
        self._asked: dict[int, str] = {}  # cache key by number
        self._askers: dict[str, list[int]] = {}  # numbers by cache key, the first to be asked first
        self._requests: dict[str, Request] = {}  # by cache key
        self._records: dict[str, Record] = {}  # what is known of them
        self._new: set[str] = set()  # those that were trained for the first who asked
        self._jobs: dict[int, str] = {}  # cache key by the executor's number, of what is in work

    def __enter__(self) -> Service:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def prepare(self) -> None:
        """Let worker processes start, and return at once; what the caller does next overlaps with their imports."""
        self._executor.start(self.evaluator, self.task)

    def close(self) -> None:
        """End worker processes and close the store; both come back if they are needed again."""
        self.cancel()
        self._executor.close()
        self.store.close()

    def with_evaluator(self, evaluator: Evaluator, *, measure: bool = True) -> Service:
        """A service of another evaluator that shares everything else with this one: store, processes, meter, clock.

        Closing either closes what they share. Only one of them may have evaluations in work.

        Args:
            measure: False leaves latency unknown.
        """
        other = Service(
            evaluator,
            self.task,
            starts=self.starts,
            store=self.store,
            meter=self.meter if measure else None,
            executor=self._executor,
            kept=self._kept,
            run=self.run,
        )
        other.training_intervals, other.measuring_intervals = self.training_intervals, self.measuring_intervals
        return other

    # -------------------------------------------------------------------------------------------------- evaluations

    def cache_key(self, candidate: Candidate, *, seed: int) -> str:
        """Name of an evaluation."""
        recipe = evaluator_of(self.evaluator, candidate).recipe
        parts: list[Any] = [candidate.graph.key, candidate.start_id, self.task.key, recipe, seed]
        parts += ["fresh"] if candidate.fresh else []
        return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()

    def evaluate(
        self, candidates: Sequence[Candidate], *, seed: int | Sequence[int], on_result: OnResult | None = None
    ) -> list[Evaluation]:
        """Evaluate candidates together, and wait until all are done.

        Each result is in the store before anyone sees it, so that an interrupted call loses only what was in work.

        Args:
            seed: Part of the cache key, so that another seed is another evaluation of the same network; one for all, or
                one for each candidate.
            on_result: Called with (index, evaluation) for each candidate as soon as its evaluation is complete.

        Returns:
            One evaluation for each candidate, in their order.

        Raises:
            EvaluationError: If evaluations cannot be carried out at all.
            StoreError: If the store cannot be read or written, or a start network is missing.
            MeterError: If latency cannot be measured; what was trained stays stored.
        """
        numbers = self.submit(candidates, seed=seed)
        places = {number: index for index, number in enumerate(numbers)}

        def report(number: int, evaluation: Evaluation) -> None:
            if on_result is not None:
                on_result(places[number], evaluation)

        found = self.collect(numbers, on_result=report)
        return [found[number] for number in numbers]

    def submit(self, candidates: Sequence[Candidate], *, seed: int | Sequence[int]) -> list[int]:
        """Ask for evaluations without waiting for them; gives a number for each, which `collect` takes.

        Raises:
            EvaluationError: If evaluations cannot be carried out at all.
            StoreError: If the store cannot be read, or a start network is missing.
        """
        seeds = [seed] * len(candidates) if isinstance(seed, int) else list(seed)
        requests = [Request(c, s) for c, s in zip(candidates, seeds, strict=True)]
        for start_id in {candidate.start_id for candidate in candidates}:
            self.starts.get(start_id)
        numbers: list[int] = []
        unknown: list[str] = []
        for request in requests:
            key = self.cache_key(request.candidate, seed=request.seed)
            self._numbers += 1
            numbers.append(self._numbers)
            self._asked[self._numbers] = key
            self._askers.setdefault(key, []).append(self._numbers)
            if key in self._requests:
                continue
            self._requests[key] = request  # the first of several decides the inherited weights
            record = self.store.get(key)
            if record is None:
                unknown.append(key)
            else:
                self._records[key] = record
        keep = self._kept > 0 or self.store.weights_mb > 0
        jobs = [Job(self._requests[key].candidate, training_seed(key), keep) for key in unknown]
        sent = self._executor.submit(jobs, evaluator=self.evaluator, task=self.task, starts=self.starts)
        self._jobs.update(zip(sent, unknown, strict=True))
        return numbers

    def collect(
        self,
        numbers: Iterable[int] | None = None,
        *,
        lag: int = 0,
        measure: bool = True,
        on_result: OnResult | None = None,
    ) -> dict[int, Evaluation]:
        """Wait for evaluations that were asked for with `submit`.

        Args:
            numbers: Which of them; all by default.
            lag: How many of these may still be in work when the call returns; a later call gives them.
            measure: False leaves latency unknown where it is. It is measured only when nothing is in work, so a lag
                goes without.
            on_result: Called with (number, evaluation) for each as soon as it is complete.

        Returns:
            Evaluations by number, of those that are complete. What is given once is not given again.

        Raises:
            EvaluationError: If evaluations cannot be carried out at all.
            StoreError: If the store cannot be read or written.
            MeterError: If latency cannot be measured; what was trained stays stored.
        """
        assert not lag or not measure or self.meter is None, "latency is measured when nothing is in work"
        wanted = set(self._asked if numbers is None else numbers)
        found: dict[int, Evaluation] = {}

        def give(key: str) -> None:
            for number in [n for n in self._askers[key] if n in wanted]:
                found[number] = self._answer(number)
                if on_result is not None:
                    on_result(number, found[number])

        try:
            for key in list(dict.fromkeys(self._asked[number] for number in sorted(wanted))):
                if key in self._records and not (measure and self._wants_latency(self._records[key])):
                    give(key)
            waiting = {n for n in wanted if n in self._asked and self._asked[n] not in self._records}
            while len(waiting) > lag:
                key = self._take_next()
                waiting.difference_update(self._askers[key])
                if not (measure and self._wants_latency(self._records[key])):
                    give(key)
            unmeasured = [key for key in self._records if wanted.intersection(self._askers[key])]
            if unmeasured and not waiting:
                while self._jobs:  # what others wait for: nothing may run beside a measurement
                    self._take_next()
                self._executor.settle()
                for key in unmeasured:
                    self._records[key] = self._measure(key, self._requests[key].candidate.graph)
                    give(key)
        except BaseException:
            self.cancel()
            raise
        return found

    @property
    def in_work(self) -> int:
        """Number of evaluations that were asked for and not yet given."""
        return len(self._asked)

    def cancel(self) -> None:
        """Give up all that was asked for and not yet given; what is trained already stays stored."""
        self._executor.cancel(list(self._jobs))
        for table in (self._asked, self._askers, self._requests, self._records, self._new, self._jobs):
            table.clear()

    def retrain(self, candidate: Candidate, *, seed: int) -> Evaluation:
        """Evaluate once more, to get the weights of an evaluation that is known from the store only.

        With a deterministic evaluator the result is the one stored. Latency is not measured and nothing is stored.

        Raises:
            EvaluationError: If evaluations cannot be carried out at all.
            StoreError: If the store cannot be read, or the start network is missing.
        """
        key = self.cache_key(candidate, seed=seed)
        record = self.store.get(key)
        first = candidate if record is None else record.candidate  # whose edits made the weights that were trained
        self.starts.get(first.start_id)
        jobs = [Job(first, training_seed(key), True)]
        (own,) = self._executor.submit(jobs, evaluator=self.evaluator, task=self.task, starts=self.starts)
        try:
            while (ended := self._executor.next()) is not None:
                if ended[0] == own:
                    self.training_intervals.append(ended[1].interval)
                    self._keep(key, ended[1].evaluation.trained)
                    return replace(ended[1].evaluation, cache_key=key)
                self._take(*ended)
        finally:
            self._executor.cancel([own])
        raise AssertionError("the executor lost a job")

    def trained(self, cache_key: str) -> Network | None:
        """Trained network of an evaluation, if it is still in memory or in the store."""
        if cache_key in self._trained:
            return self._trained[cache_key]
        record = self.store.get(cache_key)
        data = None if record is None or record.weights is None else self.store.weights(record.weights)
        if record is None or data is None:
            return None
        try:
            network = Network.from_bytes(data)
        except GraphError:
            return None  # damaged: as good as dropped
        return network if network.content_hash == record.weights else None

    def protect(self, cache_key: str) -> None:
        """Let the store keep an evaluation's weights as the run's best, in the place of those protected before."""
        record = self.store.get(cache_key)
        if record is not None and record.weights is not None:
            self.store.protect(record.weights, owner=self.run or "")

    # ------------------------------------------------------------------------------------------------------- steps

    def _take_next(self) -> str:
        """Wait for a training to end and store it; gives the cache key."""
        ended = self._executor.next()
        assert ended is not None, "the executor lost a job"
        return self._take(*ended)

    def _take(self, number: int, outcome: Outcome) -> str:
        key = self._jobs.pop(number)
        self.training_intervals.append(outcome.interval)
        self._keep(key, outcome.evaluation.trained)
        self._records[key] = self._record(key, self._requests[key], outcome)
        self._new.add(key)
        return key

    def _answer(self, number: int) -> Evaluation:
        """Give an evaluation to one who asked for it."""
        key = self._asked.pop(number)
        answer = self.evaluation(self._records[key], cached=key not in self._new)
        self._new.discard(key)  # the next to get it gets it for nothing
        self._askers[key].remove(number)
        if not self._askers[key]:
            del self._askers[key], self._requests[key], self._records[key]
        return answer

    def _keep(self, key: str, trained: Network | None) -> None:
        if trained is not None and self._kept:
            self._trained[key] = trained
            self._trained.move_to_end(key)
            while len(self._trained) > self._kept:
                self._trained.popitem(last=False)

    def _record(self, key: str, request: Request, outcome: Outcome) -> Record:
        """Store an outcome; gives the row."""
        candidate, graph, found = request.candidate, request.candidate.graph, outcome.evaluation
        parent = outcome.parent or parent_key(candidate, self.starts.get(candidate.start_id).graph)
        data, content_hash = (outcome.pack_trained() if self.store.weights_mb > 0 else None) or (None, None)
        record = Record(
            cache_key=key,
            graph=json.dumps(graph.to_json()),
            graph_key=graph.key,
            start_id=candidate.start_id,
            edits=json.dumps([site.to_json() for site in candidate.edits]),
            task_key=self.task.key,
            recipe=evaluator_of(self.evaluator, candidate).recipe,
            seed=request.seed,
            status=found.status,
            reason=found.reason,
            accuracy=None if found.metrics is None else found.metrics.accuracy,
            n_params=graph.n_params,
            macs=graph.macs,
            peak_memory_bytes=graph.peak_memory_bytes,
            cost_s=None if found.metrics is None else found.metrics.cost_s,
            training=outcome.interval,
            worker=outcome.worker,
            scores="{}" if found.metrics is None else json.dumps(dict(found.metrics.scores)),
            epochs=None if found.metrics is None else found.metrics.epochs,
            inherited_epochs=None if found.metrics is None else found.metrics.inherited_epochs,
            parent=parent,
            environment=outcome.environment,
            tries=outcome.tries,
            weights=content_hash,
            run=self.run,
            fresh=int(candidate.fresh),
            settings=json.dumps(dict(candidate.training)),
        )
        if not self.store.put(record, data):
            earlier = self.store.get(key)  # another run that uses the same store was faster
            assert earlier is not None
            return earlier
        return record

    def _wants_latency(self, record: Record) -> bool:
        if self.meter is None or record.status != "ok":
            return False
        return record.latency_ms is None or record.meter != self._meter_key()

    def _meter_key(self) -> str:
        """Description of the meter; the first call also lets it go on from where an earlier process measured."""
        assert self.meter is not None
        if self._meter_text is None:
            self._meter_text = json.dumps(dict(self.meter.description), sort_keys=True)
            known = self.store.note(f"meter {self._meter_text}")
            if known is not None:
                self.meter.restore(json.loads(known))
        return self._meter_text

    def _measure(self, key: str, graph: Graph) -> Record:
        assert self.meter is not None
        meter_key = self._meter_key()
        network = Network.initialize(graph, generator=torch.Generator().manual_seed(0))
        started = time.time()
        (latency,) = self.meter.measure([network])
        interval = (started, time.time())
        self.measuring_intervals.append(interval)
        state = json.dumps(dict(self.meter.state()))
        if self.store.note(f"meter {meter_key}") != state:
            self.store.set_note(f"meter {meter_key}", state)
        said = json.loads(environment()) | ({"warnings": list(latency.warnings)} if latency.warnings else {})
        measured_with = json.dumps(said, sort_keys=True)
        self.store.set_latency(key, latency, meter=meter_key, interval=interval, environment=measured_with)
        record = self.store.get(key)
        assert record is not None
        return record

    def evaluation(self, record: Record, *, cached: bool) -> Evaluation:
        """What the service answers for a stored row: latency only if it is this service's meter's."""
        metrics = record.metrics
        if metrics is not None and (self.meter is None or record.meter != self._meter_key()):
            metrics = metrics.with_latency(None)
        trained = self._trained.get(record.cache_key)
        return Evaluation(metrics, record.status, record.reason, trained, record.cache_key, cached)


def training_seed(cache_key: str) -> int:
    """Seed of a training, drawn from the name of the evaluation."""
    return seed_from(cache_key)
