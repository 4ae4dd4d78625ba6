"""From timed laps to one number: what was disturbed is left out, the rest is summed up lap by lap."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

UNDISTURBED: Final = 1.4
"""A lap counts if the probes around it took at most so many times what they take at best."""
BEST_SHARE: Final = 0.05
LOWER: Final = 0.25
"""Quantile of the undisturbed samples of a lap: what is left of a disturbance only ever makes a lap longer."""
HALVED: Final = 0.06
"""Drift of the reference (in its logarithm) up to which a network is taken to have drifted half as much."""
BATCHES: Final = 8
STUDENT: Final = 2.365
"""97.5 % point of Student's distribution with `BATCHES` - 1 degrees of freedom."""


@dataclass
class Samples:
    """Rounds of one network: each round the times of its laps, and those of the probes around them.

    Attributes:
        laps: Milliseconds, one list of equal length a round.
        probes: Milliseconds, one more a round than there are laps.
    """

    laps: list[list[float]] = field(default_factory=list)
    probes: list[list[float]] = field(default_factory=list)

    def add(self, timed: tuple[list[float], list[float]]) -> None:
        """Take one round."""
        laps, probes = timed
        assert len(probes) == len(laps) + 1 and (not self.laps or len(laps) == len(self.laps[0]))
        self.laps.append(laps)
        self.probes.append(probes)

    def __len__(self) -> int:
        return len(self.laps)


@dataclass(frozen=True)
class Estimate:
    """What a network took.

    Attributes:
        ms: Its time as it would have been when the reference took its baseline.
        low: Lower end of the 95 % interval.
        high: Upper end.
        reference_ms: Time of the reference in the same rounds.
        probe_ms: What a probe took at best.
        undisturbed: Share of the network's laps that were undisturbed.
    """

    ms: float
    low: float
    high: float
    reference_ms: float
    probe_ms: float
    undisturbed: float

    @property
    def half_width(self) -> float:
        """Half of the interval, relative to the time."""
        return (self.high - self.low) / 2 / self.ms


def estimate(
    network: Samples, reference: Samples, *, baseline_ms: float | None = None, probe_ms: float | None = None
) -> Estimate:
    """Sum up rounds in which a network and a reference took turns.

    A network's time is the sum over its laps of a low quantile of the undisturbed samples of that lap, and so is the
    reference's. The rounds are also cut into `BATCHES` successive batches; the interval follows from their spread.

    Args:
        baseline_ms: The reference's time that the network's is relative to; by default its time in these rounds.
        probe_ms: What a probe is known to take at best, if it did not so in these rounds.
    """
    found_ms = best_probe([*network.probes, *reference.probes])
    best_ms = found_ms if probe_ms is None else min(found_ms, probe_ms)
    laps, calm = _arrays(network, best_ms)
    reference_laps, reference_calm = _arrays(reference, best_ms)
    reference_ms = _total(reference_laps, reference_calm)
    baseline_ms = baseline_ms or reference_ms
    ms = _total(laps, calm) * correction(reference_ms, baseline_ms)
    batches = min(BATCHES, len(laps), len(reference_laps))
    parts = [
        _total(part, ok) * correction(_total(reference_part, reference_ok), baseline_ms)
        for part, ok, reference_part, reference_ok in zip(
            np.array_split(laps, batches),
            np.array_split(calm, batches),
            np.array_split(reference_laps, batches),
            np.array_split(reference_calm, batches),
            strict=True,
        )
    ]
    error = STUDENT * float(np.std(parts, ddof=1)) / len(parts) ** 0.5 if len(parts) > 1 else 0.0
    return Estimate(ms, max(ms - error, 0.0), ms + error, reference_ms, found_ms, float(calm.mean()))


def correction(reference_ms: float, baseline_ms: float) -> float:
    """Factor that takes out of a network's time what the reference's time has drifted from its baseline.

    Other work that competes for caches and memory slows networks unequally, the reference by a few per cent more than
    most: of a drift up to `HALVED` half is taken out. What goes beyond is the processor's own speed, and is taken out
    as a whole.
    """
    drift = math.log(reference_ms / baseline_ms)
    size = abs(drift)
    return math.exp(-math.copysign(min(size, HALVED) / 2 + max(size - HALVED, 0.0), drift))


def best_probe(probes: list[list[float]]) -> float:
    """What a probe took at best: near the lower end, but no stray value."""
    return float(np.quantile(np.concatenate([np.asarray(row) for row in probes]), BEST_SHARE))


def _arrays(samples: Samples, probe_ms: float) -> tuple[Array, NDArray[np.bool_]]:
    """Laps, shape (rounds, laps), and which of them were undisturbed."""
    calm = np.array(samples.probes) <= UNDISTURBED * probe_ms
    return np.array(samples.laps), calm[:, :-1] & calm[:, 1:]


def _total(laps: Array, calm: NDArray[np.bool_]) -> float:
    """Sum over the laps of a quantile of their calm rounds; of the fastest round where none is calm."""
    ordered = np.sort(np.where(calm, laps, np.inf), axis=0)
    counts = calm.sum(axis=0)
    place = np.maximum(counts - 1, 0) * LOWER
    below = place.astype(np.int64)
    columns = np.arange(laps.shape[1])
    lower, upper = ordered[below, columns], ordered[np.minimum(below + 1, np.maximum(counts - 1, 0)), columns]
    with np.errstate(invalid="ignore"):
        values = lower + (place - below) * (upper - lower)
    return float(np.where(counts > 0, values, laps.min(axis=0)).sum())
