"""What an evaluation takes and gives: candidates, metrics, and the protocol of evaluators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, runtime_checkable

from rlnas.errors import EvaluationError
from rlnas.graph import Graph, Site
from rlnas.latency import Latency
from rlnas.network import Network

Status = Literal["ok", "failed", "screened"]
"""``screened``: other candidates of its batch promised more, and it was not evaluated."""
Setting = str | int | float
"""Value of a setting of an evaluator."""


@dataclass(frozen=True)
class Metrics:
    """What is known of an evaluated network.

    Attributes:
        accuracy: Share of samples classified correctly, on the split that the evaluator scores; None from an evaluator
            that measures none. Nothing else is ever put in its place.
        n_params: Trained values.
        macs: Multiply-accumulates for one sample.
        peak_memory_bytes: Largest total of activations alive at once, for one sample.
        cost_s: Seconds that training and scoring took; a clock reading, so it takes no part in comparisons.
        latency_ms: Measured latency; None if it was not measured.
        latency_interval_ms: 95 % interval of the latency.
        scores: What else speaks for or against the network, by name: zero-cost scores, predictions. No reward takes
            them for an accuracy.
        epochs: Passes over training data that this evaluation took before it measured the accuracy; None if it trains
            in no such way.
        inherited_epochs: Passes that made the weights it began with, in all generations; None where nobody knows. Of
            two networks, the one with more of both has the better accuracy without being the better architecture.
    """

    accuracy: float | None
    n_params: int
    macs: int
    peak_memory_bytes: int
    cost_s: float = field(compare=False)
    latency_ms: float | None = None
    latency_interval_ms: tuple[float, float] | None = None
    scores: Mapping[str, float] = field(default_factory=dict, hash=False)
    epochs: float | None = None
    inherited_epochs: float | None = None

    @classmethod
    def of_graph(
        cls,
        graph: Graph,
        *,
        accuracy: float | None,
        cost_s: float,
        scores: Mapping[str, float] | None = None,
        epochs: float | None = None,
        inherited_epochs: float | None = None,
    ) -> Metrics:
        """Metrics of a network of that architecture, latency unknown."""
        return cls(
            accuracy,
            graph.n_params,
            graph.macs,
            graph.peak_memory_bytes,
            cost_s,
            scores=dict(scores or {}),
            epochs=epochs,
            inherited_epochs=inherited_epochs,
        )

    def with_latency(self, latency: Latency | None) -> Metrics:
        """The same metrics with another latency, or without."""
        if latency is None:
            return replace(self, latency_ms=None, latency_interval_ms=None)
        return replace(self, latency_ms=latency.ms, latency_interval_ms=(latency.low_ms, latency.high_ms))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        interval = self.latency_interval_ms
        return {
            "accuracy": self.accuracy,
            "latency_ms": self.latency_ms,
            "latency_interval_ms": None if interval is None else list(interval),
            "n_params": self.n_params,
            "macs": self.macs,
            "peak_memory_bytes": self.peak_memory_bytes,
            "cost_s": self.cost_s,
            "scores": dict(self.scores),
            "epochs": self.epochs,
            "inherited_epochs": self.inherited_epochs,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Metrics:
        """Inverse of `to_json`."""
        interval = data["latency_interval_ms"]
        return cls(
            accuracy=_number(data["accuracy"]),
            n_params=int(data["n_params"]),
            macs=int(data["macs"]),
            peak_memory_bytes=int(data["peak_memory_bytes"]),
            cost_s=float(data["cost_s"]),
            latency_ms=_number(data["latency_ms"]),
            latency_interval_ms=None if interval is None else (float(interval[0]), float(interval[1])),
            scores={str(name): float(value) for name, value in data.get("scores", {}).items()},
            epochs=_number(data.get("epochs")),
            inherited_epochs=_number(data.get("inherited_epochs")),
        )


@dataclass(frozen=True)
class Candidate:
    """A network to be evaluated, without tensors: a start network and what was done to it, or an architecture alone.

    Attributes:
        graph: The architecture after all edits.
        start_id: Content hash of the start network whose weights are inherited.
        edits: Operators applied to the start network, first one first.
        fresh: True for weights of its own, drawn by the seed of its evaluation; then the start network plays no part
            but that of a teacher, if the evaluator has use for one.
        training: Settings of the evaluator that are this candidate's own, sorted by name.
    """

    graph: Graph
    start_id: str
    edits: tuple[Site, ...] = ()
    fresh: bool = False
    training: tuple[tuple[str, Setting], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "graph": self.graph.to_json(),
            "start_id": self.start_id,
            "edits": [site.to_json() for site in self.edits],
            "fresh": self.fresh,
            "training": dict(self.training),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Candidate:
        """Inverse of `to_json`.

        Raises:
            EvaluationError: If a field is missing or of the wrong type.
            GraphError: If the graph is not one.
        """
        try:
            edits = tuple(Site.from_json(site) for site in data["edits"])
            fresh, training = bool(data.get("fresh", False)), tuple(sorted(data.get("training", {}).items()))
            return cls(Graph.from_json(data["graph"]), str(data["start_id"]), edits, fresh, training)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise EvaluationError(f"not a candidate: {error!r}") from None


@dataclass(frozen=True)
class Evaluation:
    """Outcome of one evaluation; a failure is an outcome too.

    Attributes:
        metrics: What was found; None if it failed or was screened out.
        status: ``"ok"``, ``"failed"`` or ``"screened"``.
        reason: Why it has no metrics, in one line.
        trained: The trained network, if it was asked for and is still at hand.
        cache_key: Name of this evaluation in the store; empty if it went through no service.
        cached: True if nothing was trained for it: the store knew it, or it came twice in one batch.
    """

    metrics: Metrics | None
    status: Status = "ok"
    reason: str | None = None
    trained: Network | None = field(default=None, repr=False)
    cache_key: str = ""
    cached: bool = False

    @classmethod
    def failed(cls, reason: str) -> Evaluation:
        """An evaluation that came to nothing."""
        return cls(None, "failed", one_line(reason))


class Evaluator(Protocol):
    """Finds out what a network is worth. It must be picklable to run in worker processes."""

    @property
    def recipe(self) -> str:
        """Canonical JSON of everything that decides the result, beside network, task and seed."""
        ...

    @property
    def deterministic(self) -> bool:
        """True if the same network and seed always give the same metrics, but for ``cost_s``."""
        ...

    def work(self, graph: Graph) -> float:
        """Multiply-accumulates that evaluating such a network takes, about; a backward pass counts as two forward."""
        ...

    def evaluate(self, network: Network, *, seed: int) -> Evaluation:
        """Evaluate a network, starting from its weights; the network itself stays as it is."""
        ...


@runtime_checkable
class Taught(Protocol):
    """An evaluator that needs a candidate's start network beside the candidate, as distillation does."""

    def taught_by(self, start: Network) -> Evaluator:
        """The evaluator of candidates of that start network."""
        ...


@runtime_checkable
class Tunable(Protocol):
    """An evaluator with settings that each candidate may have of its own, as hyper-parameters of training are."""

    def tuned(self, settings: Mapping[str, Setting]) -> Evaluator:
        """The evaluator with these settings in the place of its own.

        Raises:
            ConfigError: If one is unknown or out of range.
        """
        ...


def evaluator_of(evaluator: Evaluator, candidate: Candidate) -> Evaluator:
    """The evaluator with the candidate's own settings; one that knows no such settings, as it is."""
    return (
        evaluator.tuned(dict(candidate.training))
        if candidate.training and isinstance(evaluator, Tunable)
        else evaluator
    )


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def one_line(reason: object, *, limit: int = 300) -> str:
    """Reason of a failure as a single line of bounded length."""
    if isinstance(reason, BaseException):
        text = str(reason).strip()
        reason = f"{type(reason).__name__}: {text}" if text else type(reason).__name__
    text = " ".join(str(reason).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
