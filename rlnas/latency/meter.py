"""What a latency measurement is, and what every meter can do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Protocol, TypeGuard

from rlnas.graph import Graph
from rlnas.network import Network

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Latency:
    """Median time of one forward pass, with a distribution-free 95 % interval of the median.

    Attributes:
        ms: Median, in milliseconds for one batch.
        low_ms: Lower end of the interval.
        high_ms: Upper end of the interval.
        n: Number of timed samples.
        warnings: Why the number may be off, such as a busy machine; empty if nothing was noticed.
    """

    ms: float
    low_ms: float
    high_ms: float
    n: int
    warnings: tuple[str, ...] = ()

    @classmethod
    def from_samples(cls, samples_ms: Sequence[float], *, warnings: Sequence[str] = ()) -> Latency:
        """Summarize timed samples."""
        low, high = median_interval(samples_ms)
        return cls(float(median(samples_ms)), low, high, len(samples_ms), tuple(warnings))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types; warnings only where there are some."""
        data: dict[str, Any] = {"ms": self.ms, "low_ms": self.low_ms, "high_ms": self.high_ms, "n": self.n}
        return data | ({"warnings": list(self.warnings)} if self.warnings else {})

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Latency:
        """Inverse of `to_json`.

        Raises:
            KeyError: If a field is missing.
            ValueError: If a value is no latency.
        """
        ms, low, high, n = float(data["ms"]), float(data["low_ms"]), float(data["high_ms"]), int(data["n"])
        if not (0 <= low <= ms <= high < math.inf and ms > 0 and n >= 1):
            raise ValueError(f"ms={ms}, low_ms={low}, high_ms={high}, n={n} is no latency")
        return cls(ms, low, high, n, tuple(map(str, data.get("warnings", ()))))


class Meter(Protocol):
    """Measures networks, one after the other, with the machine to itself."""

    @property
    def deterministic(self) -> bool:
        """True if the same network always gets the same number."""
        ...

    @property
    def description(self) -> Mapping[str, Any]:
        """What was measured on what, in plain JSON types; numbers of meters that differ here are not comparable."""
        ...

    def measure(self, networks: Sequence[Network]) -> list[Latency]:
        """Latency of each network.

        Raises:
            MeterError: If a network cannot be run, or a number cannot be trusted.
        """
        ...

    def state(self) -> dict[str, float]:
        """What later measurements are relative to, such as the time of a reference network; empty if nothing."""
        ...

    def restore(self, state: Mapping[str, float]) -> None:
        """Go on from the `state` of an earlier meter of the same description."""
        ...


class GraphMeter(Meter, Protocol):
    """A deterministic meter: it knows a network's latency from its architecture alone."""

    def graph_ms(self, graph: Graph) -> float:
        """Latency of an architecture in milliseconds.

        Raises:
            MeterError: If it does not know.
        """
        ...


def is_deterministic(meter: Meter) -> TypeGuard[GraphMeter]:
    """True if a meter knows latencies before anything is trained."""
    return meter.deterministic


def median_interval(values: Sequence[float], *, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Interval between two order statistics that covers the median of any distribution with that probability.

    With fewer than six values no interval reaches 95 %; the whole range is given then.
    """
    n = len(values)
    assert n > 0
    ordered = sorted(values)
    tail, rank = 0.0, 0
    while True:  # rank = largest r with P(Binomial(n, 1/2) < r) <= (1 - confidence) / 2
        tail += math.comb(n, rank) / 2**n
        if tail > (1 - confidence) / 2:
            break
        rank += 1
    rank = max(rank, 1)
    return float(ordered[rank - 1]), float(ordered[n - rank])
