"""What an evaluation takes and gives: candidates, metrics, and the protocol of evaluators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from rlnas.errors import EvaluationError
from rlnas.graph import Graph, Site
from rlnas.latency import Latency
from rlnas.network import Network

Status = Literal["ok", "failed"]


@dataclass(frozen=True)
class Metrics:
    """What is known of an evaluated network.

    Attributes:
        accuracy: Share of samples classified correctly, on the split that the evaluator scores.
        n_params: Trained values.
        macs: Multiply-accumulates for one sample.
        peak_memory_bytes: Largest total of activations alive at once, for one sample.
        cost_s: Seconds that training and scoring took; a clock reading, so it takes no part in comparisons.
        latency_ms: Measured latency; None if it was not measured.
        latency_interval_ms: 95 % interval of the latency.
    """

    accuracy: float
    n_params: int
    macs: int
    peak_memory_bytes: int
    cost_s: float = field(compare=False)
    latency_ms: float | None = None
    latency_interval_ms: tuple[float, float] | None = None

    @classmethod
    def of_graph(cls, graph: Graph, *, accuracy: float, cost_s: float) -> Metrics:
        """Metrics of a network of that architecture, latency unknown."""
        return cls(accuracy, graph.n_params, graph.macs, graph.peak_memory_bytes, cost_s)

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
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Metrics:
        """Inverse of `to_json`."""
        interval = data["latency_interval_ms"]
        return cls(
            accuracy=float(data["accuracy"]),
            n_params=int(data["n_params"]),
            macs=int(data["macs"]),
            peak_memory_bytes=int(data["peak_memory_bytes"]),
            cost_s=float(data["cost_s"]),
            latency_ms=None if data["latency_ms"] is None else float(data["latency_ms"]),
            latency_interval_ms=None if interval is None else (float(interval[0]), float(interval[1])),
        )


@dataclass(frozen=True)
class Candidate:
    """A network to be evaluated, without tensors: a start network and what was done to it.

    Attributes:
        graph: The architecture after all edits.
        start_id: Content hash of the start network whose weights are inherited.
        edits: Operators applied to the start network, first one first.
    """

    graph: Graph
    start_id: str
    edits: tuple[Site, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        edits = [site.to_json() for site in self.edits]
        return {"graph": self.graph.to_json(), "start_id": self.start_id, "edits": edits}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Candidate:
        """Inverse of `to_json`.

        Raises:
            EvaluationError: If a field is missing or of the wrong type.
            GraphError: If the graph is not one.
        """
        try:
            edits = tuple(Site.from_json(site) for site in data["edits"])
            return cls(Graph.from_json(data["graph"]), str(data["start_id"]), edits)
        except (KeyError, TypeError, ValueError) as error:
            raise EvaluationError(f"not a candidate: {error!r}") from None


@dataclass(frozen=True)
class Evaluation:
    """Outcome of one evaluation; a failure is an outcome too.

    Attributes:
        metrics: What was found; None if it failed.
        status: ``"ok"`` or ``"failed"``.
        reason: Why it failed, in one line.
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

    def evaluate(self, network: Network, *, seed: int) -> Evaluation:
        """Evaluate a network, starting from its weights; the network itself stays as it is."""
        ...


def one_line(reason: object, *, limit: int = 300) -> str:
    """Reason of a failure as a single line of bounded length."""
    if isinstance(reason, BaseException):
        text = str(reason).strip()
        reason = f"{type(reason).__name__}: {text}" if text else type(reason).__name__
    text = " ".join(str(reason).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
