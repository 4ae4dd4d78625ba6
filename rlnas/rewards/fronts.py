"""Which points no other one beats in both accuracy and cost, and how much they cover together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Point:
    """A network as accuracy, to be high, and cost, to be low.

    Attributes:
        accuracy: Share of right answers.
        cost: Latency, parameters or multiply-accumulates.
    """

    accuracy: float
    cost: float


@dataclass(frozen=True)
class Ranges:
    """Fixed ranges that make hypervolumes comparable, within a run and between runs from the same start network.

    Attributes:
        accuracy: Lowest and highest accuracy that count.
        cost: Lowest and highest cost that count.
    """

    accuracy: tuple[float, float]
    cost: tuple[float, float]

    @classmethod
    def around(cls, start: Point) -> Ranges:
        """From twice the start network's error (at least 2 %) to none, and a tenth to ten times its cost."""
        worst = max(0.0, 1 - max(0.02, 2 * (1 - start.accuracy)))
        return cls(accuracy=(worst, 1.0), cost=(start.cost / 10, start.cost * 10))


def dominates(a: Point, b: Point) -> bool:
    """Whether ``a`` is at least as good as ``b`` in both, and not the same."""
    return a.accuracy >= b.accuracy and a.cost <= b.cost and a != b


def front(points: Sequence[Point]) -> list[int]:
    """Indices of the points that no other dominates, from the cheapest on; of equal points the first.

    Points with a number that is not finite are passed over.
    """
    usable = [i for i, p in enumerate(points) if math.isfinite(p.accuracy) and math.isfinite(p.cost)]
    chosen: list[int] = []
    best = -math.inf
    for i in sorted(usable, key=lambda i: (points[i].cost, -points[i].accuracy, i)):
        if points[i].accuracy > best:
            best = points[i].accuracy
            chosen.append(i)
    return chosen


def hypervolume(points: Sequence[Point], *, reference: Point) -> float:
    """Area of what is dominated by some point and dominates the reference: the larger the better."""
    area, accuracy = 0.0, reference.accuracy
    for point in (points[i] for i in front(points)):
        if point.cost < reference.cost and point.accuracy > accuracy:
            area += (point.accuracy - accuracy) * (reference.cost - point.cost)
            accuracy = point.accuracy
    return area


def relative_hypervolume(points: Sequence[Point], *, ranges: Ranges) -> float:
    """Hypervolume in [0, 1]: share of the ranges that is dominated, the cost on a logarithmic scale."""
    (worst, best), (cheapest, dearest) = ranges.accuracy, ranges.cost
    assert worst < best and 0 < cheapest < dearest
    scaled = [
        Point(
            accuracy=min(1.0, (p.accuracy - worst) / (best - worst)),
            cost=max(0.0, (math.log(p.cost) - math.log(cheapest)) / (math.log(dearest) - math.log(cheapest))),
        )
        for p in points
        if math.isfinite(p.accuracy) and math.isfinite(p.cost)
    ]
    return hypervolume(scaled, reference=Point(accuracy=0.0, cost=1.0))
