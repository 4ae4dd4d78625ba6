"""The service: from candidates to evaluations, through cache, executor, store and meter."""

from __future__ import annotations

import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import TracebackType

import torch

from rlnas.errors import EvaluationError
from rlnas.evaluation.build import seed_from
from rlnas.evaluation.jobs import Executor, InlineExecutor, Job, Outcome
from rlnas.evaluation.metrics import Candidate, Evaluation, Evaluator
from rlnas.evaluation.pool import WorkerPool
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
        time_limit_s: Longest time for one evaluation; needs workers to have an effect.
        meter: Measures latency; None leaves it unknown.
        executor: Carries out the training in the place of ``workers`` and ``time_limit_s``.
        kept: How many trained networks stay in memory.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        task: Task,
        *,
        starts: StartLibrary,
        store: Store,
        workers: int = 0,
        time_limit_s: float | None = None,
        meter: Meter | None = None,
        executor: Executor | None = None,
        kept: int = 64,
    ) -> None:
        self.evaluator = evaluator
        self.task = task
        self.starts = starts
        self.store = store
        self.meter = meter
        self.training_intervals: list[Interval] = []
        self.measuring_intervals: list[Interval] = []
        if executor is None:
            executor = WorkerPool(workers, time_limit_s=time_limit_s) if workers else InlineExecutor()
        self._executor = executor
        self._kept = kept
        self._trained: OrderedDict[str, Network] = OrderedDict()
        self._meter_text: str | None = None

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
        self._executor.close()
        self.store.close()

    def with_evaluator(self, evaluator: Evaluator) -> Service:
        """A service of another evaluator that shares everything else with this one: store, processes, meter, clock.

        Closing either closes what they share.
        """
        other = Service(
            evaluator,
            self.task,
            starts=self.starts,
            store=self.store,
            meter=self.meter,
            executor=self._executor,
            kept=self._kept,
        )
        other.training_intervals, other.measuring_intervals = self.training_intervals, self.measuring_intervals
        return other

    # -------------------------------------------------------------------------------------------------- evaluations

    def cache_key(self, candidate: Candidate, *, seed: int) -> str:
        """Name of an evaluation."""
        parts = [candidate.graph.key, candidate.start_id, self.task.key, self.evaluator.recipe, seed]
        return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()

    def evaluate(
        self, candidates: Sequence[Candidate], *, seed: int | Sequence[int], on_result: OnResult | None = None
    ) -> list[Evaluation]:
        """Evaluate candidates together.

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
        seeds = [seed] * len(candidates) if isinstance(seed, int) else list(seed)
        batch = _Batch(self, [Request(c, s) for c, s in zip(candidates, seeds, strict=True)], on_result)
        for key, outcome in self._run(batch.unknown(), keep=self._kept > 0):
            batch.add(key, self._record(key, batch.requests[key], outcome))
        unmeasured = [key for key, record in batch.records.items() if self._wants_latency(record)]
        if unmeasured:
            self._executor.settle()
            for key in unmeasured:
                batch.add(key, self._measure(key, batch.requests[key].candidate.graph))
        return batch.evaluations()

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
        ((_, outcome),) = self._run({key: Request(first, seed)}, keep=True)
        return replace(outcome.evaluation, cache_key=key)

    def trained(self, cache_key: str) -> Network | None:
        """Trained network of a recent evaluation, if it is still in memory."""
        return self._trained.get(cache_key)

    # ------------------------------------------------------------------------------------------------------- steps

    def _run(self, requests: dict[str, Request], *, keep: bool) -> Iterator[tuple[str, Outcome]]:
        """Train; gives (cache key, outcome) as they end."""
        if not requests:
            return
        for start_id in {request.candidate.start_id for request in requests.values()}:
            self.starts.get(start_id)
        keys = list(requests)
        jobs = [Job(requests[key].candidate, training_seed(key), keep) for key in keys]
        outcomes = self._executor.run(jobs, evaluator=self.evaluator, task=self.task, starts=self.starts)
        try:
            for index, outcome in outcomes:
                self.training_intervals.append(outcome.interval)
                self._keep(keys[index], outcome.evaluation.trained)
                yield keys[index], outcome
        finally:
            outcomes.close()  # abandons what is still in work if the caller was interrupted

    def _keep(self, key: str, trained: Network | None) -> None:
        if trained is not None and self._kept:
            self._trained[key] = trained
            self._trained.move_to_end(key)
            while len(self._trained) > self._kept:
                self._trained.popitem(last=False)

    def _record(self, key: str, request: Request, outcome: Outcome) -> Record:
        """Store an outcome; gives the row."""
        candidate, graph, found = request.candidate, request.candidate.graph, outcome.evaluation
        record = Record(
            cache_key=key,
            graph=json.dumps(graph.to_json()),
            graph_key=graph.key,
            start_id=candidate.start_id,
            edits=json.dumps([site.to_json() for site in candidate.edits]),
            task_key=self.task.key,
            recipe=self.evaluator.recipe,
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
        )
        self.store.put(record)
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
        self.store.set_latency(key, latency, meter=meter_key, interval=interval)
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


class _Batch:
    """One call of `Service.evaluate`: which requests share a key, what is known, what was reported."""

    def __init__(self, service: Service, requests: Sequence[Request], on_result: OnResult | None) -> None:
        self._service = service
        self._keys = [service.cache_key(request.candidate, seed=request.seed) for request in requests]
        self._on_result = on_result
        self._answers: list[Evaluation | None] = [None] * len(requests)
        self.requests: dict[str, Request] = {}
        for key, request in zip(self._keys, requests, strict=True):
            self.requests.setdefault(key, request)  # the first of several decides the inherited weights
        self.records: dict[str, Record] = {}
        self._stored: set[str] = set()
        for key in self.requests:
            record = service.store.get(key)
            if record is not None:
                self._stored.add(key)
                self.add(key, record)

    def unknown(self) -> dict[str, Request]:
        """What has to be trained."""
        return {key: request for key, request in self.requests.items() if key not in self.records}

    def add(self, key: str, record: Record) -> None:
        """Take a result, and report it to all who wait for it if nothing is missing."""
        self.records[key] = record
        if self._service._wants_latency(record):
            return
        cached = key in self._stored
        for index in [i for i, other in enumerate(self._keys) if other == key]:
            answer = self._service.evaluation(record, cached=cached)
            self._answers[index] = answer
            cached = True
            if self._on_result is not None:
                self._on_result(index, answer)

    def evaluations(self) -> list[Evaluation]:
        """All answers in the order of the candidates."""
        assert all(answer is not None for answer in self._answers)
        return [answer for answer in self._answers if answer is not None]


def training_seed(cache_key: str) -> int:
    """Seed of a training, drawn from the name of the evaluation."""
    return seed_from(cache_key)
