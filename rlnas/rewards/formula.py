"""What a reward is before its numbers are known: a formula with its constants, and the frame that it is seen in."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, Self

from rlnas.errors import ConfigError, unknown_name
from rlnas.rewards.history import History
from rlnas.rewards.measured import COSTS, Facts, Reference

LARGEST_LOG: Final = 600.0
"""Logarithms are clipped to it, so that every reward is finite."""


@dataclass(frozen=True)
class Frame:
    """What a formula's numbers are relative to.

    Attributes:
        reference: The start network.
        cost: The cost that counts, one of `COSTS`.
        target: Target of that cost: the one that was given, or the start network's cost.
        given: Whether a target was given.
    """

    reference: Reference
    cost: str
    target: float
    given: bool

    def log_ratio(self, facts: Facts) -> float:
        """Logarithm of the cost over its target."""
        return clipped(math.log(facts.cost(self.cost)) - math.log(self.target))

    def log_ratio_of(self, facts: Facts, cost: str) -> float:
        """Logarithm of any cost over its target, which is the start network's for all but the one that counts."""
        if cost == self.cost:
            return self.log_ratio(facts)
        start = self.reference.cost(cost)
        assert start is not None
        return clipped(math.log(facts.cost(cost)) - math.log(start))


@dataclass(frozen=True)
class Formula(ABC):
    """One row of `rlnas.rewards.REWARDS`: how an accuracy and costs become a number.

    Attributes:
        options: Fields that are a person's to set.
        looks_back: Whether it depends on what was evaluated before.
        signed: Whether it can be below 0. What exceeds a limit is divided by how many times it does, or, in a formula
            that can be below 0, loses the logarithm of that.
    """

    options: ClassVar[tuple[str, ...]] = ()
    looks_back: ClassVar[bool] = False
    signed: ClassVar[bool] = False

    @abstractmethod
    def value(self, facts: Facts, frame: Frame, history: History | None) -> float:
        """What a network is paid.

        Args:
            history: What was evaluated before; None for what the network is worth by itself, by which networks are
                compared with each other.
        """

    def failure(self, frame: Frame) -> float:
        """What a failed evaluation is paid: as a network at the start network's cost that is never right."""
        return self.value(replace(frame.reference.facts, accuracy=0.0), frame, None)

    def over_limit(self, value: float, log_excess: float) -> float:
        """The value of a network over a limit.

        Args:
            log_excess: Logarithm of how many times the limit is exceeded, above 0.
        """
        return value - log_excess if self.signed else value * math.exp(-log_excess)

    @property
    def aims(self) -> bool:
        """Whether a target does anything."""
        return True

    def costs(self, cost: str) -> tuple[str, ...]:
        """The costs that it looks at."""
        return (cost,)

    def check(self, frame: Frame, chosen: Mapping[str, Any]) -> None:
        """Refuse numbers out of range, and what would do nothing.

        Args:
            chosen: Options that were set.

        Raises:
            ConfigError: If there is such a thing.
        """
        assert set(chosen) <= set(self.options)

    def with_options(self, name: str, chosen: Mapping[str, Any]) -> Self:
        """The formula with other constants.

        Raises:
            ConfigError: If there is no such option, or its value is of the wrong type.
        """
        for option, value in chosen.items():
            if not self.options:
                raise ConfigError(f"the reward {name!r} has no options, but {option!r} is given")
            if option not in self.options:
                raise ConfigError(unknown_name(f"option of the reward {name!r}:", option, self.options))
            _check_type(option, value, getattr(self, option))
        return replace(
            self, **{k: tuple(sorted(v.items())) if isinstance(v, Mapping) else v for k, v in chosen.items()}
        )


def clipped(logarithm: float) -> float:
    """A logarithm within `LARGEST_LOG` of 0."""
    return max(-LARGEST_LOG, min(LARGEST_LOG, logarithm))


def require(holds: bool, option: str, value: object, words: str) -> None:
    """Refuse an option's value.

    Raises:
        ConfigError: If it does not hold.
    """
    if not holds:
        raise ConfigError(f"reward.options: {option}={value!r} must be {words}")


def require_costs(option: str, pairs: tuple[tuple[str, float], ...]) -> None:
    """Refuse what is not a cost with a finite number above 0.

    Raises:
        ConfigError: If there is such a thing.
    """
    for cost, value in pairs:
        if cost not in COSTS:
            raise ConfigError(unknown_name(f"cost in reward.options: {option}:", str(cost), COSTS))
        require(_is_number(value) and 0 < value < math.inf, f"{option}.{cost}", value, "a number above 0")


def _check_type(option: str, value: object, default: object) -> None:
    if isinstance(default, tuple):
        require(isinstance(value, Mapping), option, value, "costs with their numbers, such as {macs: 0.05}")
    elif isinstance(default, str):
        require(isinstance(value, str), option, value, "a name")
    elif isinstance(default, int):
        require(isinstance(value, int) and not isinstance(value, bool), option, value, "a whole number")
    else:
        require(_is_number(value), option, value, "a number")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
