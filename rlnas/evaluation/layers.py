"""Layers above the service: they decide which candidates of a batch are evaluated, and how far."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace

from rlnas.evaluation.metrics import Candidate, Evaluation, Evaluator
from rlnas.evaluation.service import OnResult, Service
from rlnas.evaluation.starts import StartLibrary
from rlnas.evaluation.store import Store
from rlnas.evaluation.times import Interval
from rlnas.graph import Graph
from rlnas.latency import Meter
from rlnas.network import Network
from rlnas.tasks import Task


class Layer(ABC):
    """Evaluates batches like `Service`, by way of a service or another layer; all of its results come from services.

    What it makes of a candidate depends on the others of its batch. So everything but a search's own batches (the start
    network, the winners) is evaluated by `full`.

    Args:
        inner: What evaluates the candidates that it lets through.
    """

    def __init__(self, inner: Service | Layer) -> None:
        self.inner = inner

    @abstractmethod
    def evaluate(
        self, candidates: Sequence[Candidate], *, seed: int | Sequence[int], on_result: OnResult | None = None
    ) -> list[Evaluation]:
        """Evaluate candidates together; see `Service.evaluate`."""

    @abstractmethod
    def known(self, candidate: Candidate, *, seed: int) -> bool:
        """Whether evaluating it costs nothing, or less than it did the first time."""

    @property
    @abstractmethod
    def deterministic(self) -> bool:
        """True if the same batch always gives the same metrics, but for ``cost_s`` and latency."""

    @abstractmethod
    def work(self, graph: Graph) -> float:
        """Multiply-accumulates for one candidate of such a graph in a large batch, on average; see `Evaluator.work`."""

    @property
    def full(self) -> Service:
        """The service that evaluates a candidate to the end, whoever else is in its batch."""
        return full(self.inner)

    def retrain(self, candidate: Candidate, *, seed: int) -> Evaluation:
        """See `Service.retrain`."""
        return self.inner.retrain(candidate, seed=seed)

    def trained(self, cache_key: str) -> Network | None:
        """See `Service.trained`."""
        return self.inner.trained(cache_key)

    def protect(self, cache_key: str) -> None:
        """See `Service.protect`."""
        self.full.protect(cache_key)

    # ----------------------------------------------------------------------------------------- what the service has

    @property
    def evaluator(self) -> Evaluator:
        """What judges candidates in the end."""
        return self.full.evaluator

    @property
    def task(self) -> Task:
        """What the networks are for."""
        return self.full.task

    @property
    def starts(self) -> StartLibrary:
        """Start networks of the candidates."""
        return self.full.starts

    @property
    def store(self) -> Store:
        """Where all results are kept."""
        return self.full.store

    @property
    def meter(self) -> Meter | None:
        """What measures latency."""
        return self.full.meter

    @property
    def training_intervals(self) -> list[Interval]:
        """When networks were trained."""
        return self.full.training_intervals

    @property
    def measuring_intervals(self) -> list[Interval]:
        """When latency was measured."""
        return self.full.measuring_intervals

    def prepare(self) -> None:
        """See `Service.prepare`."""
        self.full.prepare()

    def close(self) -> None:
        """See `Service.close`."""
        self.inner.close()


def full(service: Service | Layer) -> Service:
    """The service under all layers."""
    return service.full if isinstance(service, Layer) else service


def work(service: Service | Layer, graph: Graph) -> float:
    """Multiply-accumulates for one candidate of such a graph."""
    return service.work(graph) if isinstance(service, Layer) else service.evaluator.work(graph)


def deterministic(service: Service | Layer) -> bool:
    """Whether the same batch always gives the same metrics."""
    return service.deterministic if isinstance(service, Layer) else service.evaluator.deterministic


def known(service: Service | Layer, candidate: Candidate, *, seed: int) -> bool:
    """Whether a service or a layer has an answer for a candidate already."""
    if isinstance(service, Layer):
        return service.known(candidate, seed=seed)
    return service.store.get(service.cache_key(candidate, seed=seed)) is not None


class Grouped:
    """The candidates of a batch by what they are: two that share a cache key take one place.

    Args:
        service: Whose cache keys count.
    """

    def __init__(self, service: Service, candidates: Sequence[Candidate], seed: int | Sequence[int]) -> None:
        seeds = [seed] * len(candidates) if isinstance(seed, int) else list(seed)
        self._places: dict[str, list[int]] = {}
        self.requests: dict[str, tuple[Candidate, int]] = {}
        for index, (candidate, own) in enumerate(zip(candidates, seeds, strict=True)):
            key = service.cache_key(candidate, seed=own)
            self._places.setdefault(key, []).append(index)
            self.requests.setdefault(key, (candidate, own))
        self._answers: dict[int, Evaluation] = {}

    def ask(self, service: Service | Layer, keys: Sequence[str], on_result: OnResult | None = None) -> list[Evaluation]:
        """Have some of them evaluated."""
        requests = [self.requests[key] for key in keys]
        return service.evaluate([c for c, _ in requests], seed=[s for _, s in requests], on_result=on_result)

    def answer(self, key: str, evaluation: Evaluation, on_result: OnResult | None) -> None:
        """Give an evaluation to all that share a key."""
        for n, index in enumerate(self._places[key]):
            own = evaluation if n == 0 or evaluation.status == "screened" else replace(evaluation, cached=True)
            self._answers[index] = own
            if on_result is not None:
                on_result(index, own)

    def answers(self) -> list[Evaluation]:
        """All answers in the order of the candidates."""
        return [self._answers[index] for index in range(len(self._answers))]
