"""When things were done, and for how long at least one of them was."""

from __future__ import annotations

from collections.abc import Iterable

Interval = tuple[float, float]
"""Start and end, in seconds since the epoch."""


def busy_time(intervals: Iterable[Interval]) -> float:
    """Seconds covered by at least one of the intervals: the length of their union."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(intervals):
        if end > reached:
            total += end - max(start, reached)
            reached = end
    return total
