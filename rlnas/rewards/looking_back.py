"""Rewards that compare a network with those that were evaluated before it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from rlnas.errors import ConfigError, unknown_name
from rlnas.rewards.formula import Formula, Frame
from rlnas.rewards.fronts import Point, Ranges, front, relative_hypervolume
from rlnas.rewards.history import History
from rlnas.rewards.measured import Facts

LOWEST_RANK: Final = -0.5


@dataclass(frozen=True)
class Rank(Formula):
    """Share of all evaluations so far, this one included, that another reward puts below it, less one half.

    Equals count half. It lies between -1/2 and 1/2 whatever the scale of the other reward, is 0 for the first network,
    and goes on telling networks apart when all are good.

    Attributes:
        of: The other reward, which is also what a network is worth by itself.
        formulas: Rewards that can be ranked by.
    """

    of: str = "mnasnet_soft"
    formulas: Mapping[str, Formula] = field(default_factory=dict, compare=False, repr=False)
    options: ClassVar[tuple[str, ...]] = ("of",)
    looks_back: ClassVar[bool] = True
    signed: ClassVar[bool] = True

    @property
    def _base(self) -> Formula:
        if self.of not in self.formulas:
            raise ConfigError(unknown_name("reward to rank by:", self.of, self.formulas))
        return self.formulas[self.of]

    def value(self, facts: Facts, frame: Frame, history: History | None) -> float:
        """The rank, or without a history the other reward."""
        base = self._base
        value = base.value(facts, frame, None)
        if history is None:
            return value

        def take(values: list[float], earlier: Facts) -> list[float]:
            insort(values, base.value(earlier, frame, None))
            return values

        values = history.fold((self, frame), list, take)
        below, up_to = bisect_left(values, value), bisect_right(values, value)
        return (below + (up_to - below + 1) / 2) / (len(values) + 1) + LOWEST_RANK

    def failure(self, frame: Frame) -> float:
        """The lowest rank."""
        return LOWEST_RANK

    @property
    def aims(self) -> bool:
        """As the other reward."""
        return self._base.aims

    def costs(self, cost: str) -> tuple[str, ...]:
        """As the other reward."""
        return self._base.costs(cost)

    def check(self, frame: Frame, chosen: Mapping[str, Any]) -> None:
        """As the other reward."""
        self._base.check(frame, {})


@dataclass(frozen=True)
class HypervolumeGain(Formula):
    """How much larger the network makes the area that the Pareto front of accuracy and cost dominates.

    The front begins with the start network. The area is that of ``search/hypervolume``: a share of fixed ranges around
    the start network, the cost on a logarithmic scale. So the rewards of a search sum up to what its front gained, and
    what is dominated, or evaluated again, gets 0. By itself a network is worth what it adds to the start network.
    """

    looks_back: ClassVar[bool] = True

    def value(self, facts: Facts, frame: Frame, history: History | None) -> float:
        """The gain."""
        start = _point(frame.reference.facts, frame)
        ranges = Ranges.around(start)

        def take(points: list[Point], earlier: Facts) -> list[Point]:
            return _front([*points, _point(earlier, frame)])

        known = [start] if history is None else history.fold((self, frame), lambda: [start], take)
        return _area([*known, _point(facts, frame)], ranges) - _area(known, ranges)

    def failure(self, frame: Frame) -> float:
        """Nothing is gained."""
        return 0.0

    def over_limit(self, value: float, log_excess: float) -> float:
        """Nothing is gained: a network over a limit is not on the front."""
        return 0.0

    @property
    def aims(self) -> bool:
        """It has no target."""
        return False


def _point(facts: Facts, frame: Frame) -> Point:
    return Point(facts.accuracy, facts.cost(frame.cost))


def _front(points: list[Point]) -> list[Point]:
    return [points[i] for i in front(points)]


def _area(points: list[Point], ranges: Ranges) -> float:
    return relative_hypervolume(points, ranges=ranges)
