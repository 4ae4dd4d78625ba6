"""Where the wall time went."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Interval:
    """A stretch of time in which a network was trained or measured, on any clock.

    Attributes:
        kind: What was done.
        start_s: Begin.
        end_s: End.
    """

    kind: Literal["train", "measure"]
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Breakdown:
    """Wall time by what it went into; the three parts add up to the whole.

    Attributes:
        total_s: The whole.
        train_s: At least one network was being trained.
        measure_s: A network was being measured, and none trained.
        other_s: Neither.
    """

    total_s: float
    train_s: float
    measure_s: float
    other_s: float

    @property
    def share(self) -> float:
        """Share of the time in which a network was being trained or measured."""
        return (self.train_s + self.measure_s) / self.total_s if self.total_s > 0 else 0.0

    def line(self) -> str:
        """One line to print."""
        parts = (("training", self.train_s), ("measuring", self.measure_s), ("other", self.other_s))
        whole = max(self.total_s, 1e-12)
        words = ", ".join(f"{name} {seconds:.1f} s ({100 * seconds / whole:.0f} %)" for name, seconds in parts)
        return f"wall time {self.total_s:.1f} s: {words}"


def breakdown(intervals: Sequence[Interval], *, start_s: float, end_s: float) -> Breakdown:
    """Sum up the intervals within a stretch of time; those that overlap (several workers) count once."""
    assert end_s >= start_s
    clipped = [Interval(i.kind, max(i.start_s, start_s), min(i.end_s, end_s)) for i in intervals]
    train = union_length((i.start_s, i.end_s) for i in clipped if i.kind == "train")
    busy = union_length((i.start_s, i.end_s) for i in clipped)
    total = end_s - start_s
    return Breakdown(total_s=total, train_s=train, measure_s=busy - train, other_s=max(0.0, total - busy))


def union_length(stretches: Iterable[tuple[float, float]]) -> float:
    """Length of the union of stretches; those that end before they begin count nothing."""
    total, reached = 0.0, float("-inf")
    for begin, end in sorted(stretches):
        if end > max(begin, reached):
            total += end - max(begin, reached)
            reached = end
    return total
