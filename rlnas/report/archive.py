"""The evaluations that no other one beats in all objectives, and how much they cover together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rlnas.errors import ConfigError, unknown_name
from rlnas.rewards.fronts import Point, Ranges, hypervolume


@dataclass(frozen=True)
class Axis:
    """An objective, to be made large, and how much of it counts.

    Attributes:
        name: Its entry of ``info["reward_vector"]``.
        worst: The reference: what is no better than that covers nothing.
        best: What counts as 1, and more as no more; None counts from ``worst`` on, in the objective's own unit.
        log: Count ratios, not differences, of an objective below 0: of a cost with a minus.

    Raises:
        ConfigError: If ``best`` is not above ``worst``, a number is not finite, or ``log`` has nothing to work on.
    """

    name: str
    worst: float
    best: float | None = None
    log: bool = False

    def __post_init__(self) -> None:
        if not math.isfinite(self.worst) or (self.best is not None and not self.worst < self.best < math.inf):
            raise ConfigError(f"the objective {self.name} cannot count from {self.worst} to {self.best}")
        if self.log and (self.best is None or self.best >= 0):
            raise ConfigError(f"the objective {self.name} can be counted in ratios only below 0, from worst to best")

    def scaled(self, value: float) -> float:
        """How far a value is above ``worst``."""
        if self.best is None:
            return value - self.worst
        if self.log and value >= 0:
            return 1.0
        low, x, high = (math.log(-v) if self.log else -v for v in (self.worst, value, self.best))
        return min(1.0, (low - x) / (low - high))


def axes_around(ranges: Ranges, *, cost: str) -> tuple[Axis, Axis]:
    """Accuracy, and a cost by its logarithm: what `relative_hypervolume` counts.

    Args:
        cost: Its name, such as ``"macs"``; the entry of the vector is ``"minus_macs"``.
    """
    cheapest, dearest = ranges.cost
    return Axis("accuracy", *ranges.accuracy), Axis(f"minus_{cost}", -dearest, -cheapest, log=True)


class Archive:
    """Gathers evaluations, and keeps those that no other beats: at least as good in all objectives, better in one.

    Of equal ones the first stays. Evaluations that failed or broke a limit, and those whose vector has an entry that is
    not finite, count as evaluations and cover nothing.

    Args:
        axes: The objectives that count, at least one.

    Attributes:
        records: The front: what `rlnas.envs` says of each evaluation, with its ``actions`` and ``reward_vector``.
        history: Hypervolume after each evaluation.
    """

    def __init__(self, axes: Sequence[Axis]) -> None:
        if not axes:
            raise ConfigError("an archive needs at least one objective")
        self.axes = tuple(axes)
        self.records: list[dict[str, Any]] = []
        self.history: list[float] = []

    @property
    def hypervolume(self) -> float:
        """Volume between the worst of all axes and the front: a share of the whole where all axes have a best."""
        return self.history[-1] if self.history else 0.0

    def add(self, info: Mapping[str, Any]) -> bool:
        """Take in what the last step of an episode says; True if the front has changed.

        Raises:
            ConfigError: If the vector lacks an objective that counts.
        """
        vector = info["reward_vector"] if info["evaluation"]["status"] == "ok" else None
        point = None if vector is None else self._point(vector)
        if vector is None or point is None or not all(map(math.isfinite, point)):
            self.history.append(self.hypervolume)
            return False
        kept = [(self._point(record["reward_vector"]), record) for record in self.records]
        if any(_at_least(other, point) for other, _ in kept):
            self.history.append(self.hypervolume)
            return False
        record = {**info["evaluation"], "actions": list(info["actions"]), "reward_vector": dict(vector)}
        self.records = [old for other, old in kept if not _at_least(point, other)] + [record]
        self.history.append(volume([self._scaled(record["reward_vector"]) for record in self.records]))
        return True

    def state(self) -> dict[str, Any]:
        """What it knows, as JSON values."""
        return {"records": self.records, "history": self.history}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what `state` gave."""
        self.records, self.history = [dict(r) for r in state["records"]], [float(x) for x in state["history"]]

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(axis.name for axis in self.axes)

    def _point(self, vector: Mapping[str, float]) -> tuple[float, ...]:
        for name in self._names:
            if name not in vector:
                raise ConfigError(unknown_name("objective", name, vector))
        return tuple(float(vector[name]) for name in self._names)

    def _scaled(self, vector: Mapping[str, float]) -> tuple[float, ...]:
        return tuple(axis.scaled(float(vector[axis.name])) for axis in self.axes)


def _at_least(first: Sequence[float], second: Sequence[float]) -> bool:
    return all(a >= b for a, b in zip(first, second, strict=True))


def volume(points: Sequence[Sequence[float]]) -> float:
    """Volume of all that lies between zero and some point: of the union of boxes, in any number of dimensions.

    Cut into slices along the last axis, each as thick as two neighbouring points are apart and as large as what the
    points above it cover in the other axes.
    """
    above = [tuple(point) for point in points if min(point) > 0]
    if not above:
        return 0.0
    if len(above[0]) == 1:
        return max(point[0] for point in above)
    if len(above[0]) == 2:
        return hypervolume([Point(accuracy=x, cost=-y) for x, y in above], reference=Point(accuracy=0.0, cost=0.0))
    above.sort(key=lambda point: -point[-1])
    levels = [point[-1] for point in above] + [0.0]
    flat = [point[:-1] for point in above]
    return sum(
        (levels[i] - levels[i + 1]) * volume(flat[: i + 1]) for i in range(len(flat)) if levels[i] > levels[i + 1]
    )
