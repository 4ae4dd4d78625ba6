"""Rewards that multiply what an accuracy is worth by powers of costs; never below 0."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any, ClassVar, Final, Literal

from rlnas.errors import ConfigError
from rlnas.rewards.formula import Formula, Frame, clipped, require, require_costs
from rlnas.rewards.history import History
from rlnas.rewards.measured import Facts

HIGHEST_ACCURACY: Final = 0.999
"""Accuracies above it count as it: the tangent of pi/2 is infinite."""
LEAST_QUALITY: Final = 1e-3


def tangent(accuracy: float) -> float:
    """The tangent of a quarter turn times accuracy: the last percents count most."""
    return math.tan(math.pi / 2 * min(accuracy, HIGHEST_ACCURACY))


@dataclass(frozen=True)
class Power(Formula):
    """``quality(accuracy) * (cost / target) ** exponent``.

    Attributes:
        alpha: Exponent at or below the target.
        beta: Exponent above it.
        quality: What an accuracy is worth: itself, or its tangent over the mean tangent of the start network's.
        start_is_target: Without a target: True puts the start network's cost in its place; False makes the reward
            relative to the start network's cost by ``alpha`` alone, without a bend.

    References:
        Tan et al., MnasNet, CVPR 2019, arXiv:1807.11626 (soft and hard exponents).
        Cai et al., Efficient Architecture Search by Network Transformation, AAAI 2018, arXiv:1707.04873 (tangent).
        Cai et al., ProxylessNAS, ICLR 2019, arXiv:1812.00332 (-0.1 on both sides, in its REINFORCE form).
    """

    alpha: float
    beta: float
    quality: Literal["accuracy", "tangent"] = "accuracy"
    start_is_target: bool = True
    options: ClassVar[tuple[str, ...]] = ("alpha", "beta")

    def value(self, facts: Facts, frame: Frame, history: History | None) -> float:
        """The product."""
        distance = frame.log_ratio(facts)
        above = distance > 0 and (frame.given or self.start_is_target)
        return self._quality(facts, frame) * math.exp(clipped((self.beta if above else self.alpha) * distance))

    def check(self, frame: Frame, chosen: Mapping[str, Any]) -> None:
        """Exponents are not above 0, so that a higher cost never pays."""
        for option in self.options:
            value = getattr(self, option)
            require(-math.inf < value <= 0, option, value, "0 or less, so that a higher cost never pays")
        if "beta" in chosen and not frame.given and not self.start_is_target:
            raise ConfigError(f"reward.options: beta={self.beta!r} does nothing in this reward without a target")

    def _quality(self, facts: Facts, frame: Frame) -> float:
        if self.quality == "accuracy":
            return facts.accuracy
        return tangent(facts.accuracy) / _start_tangent(frame.reference.accuracies)


def _start_tangent(accuracies: tuple[float, ...]) -> float:
    assert accuracies, "the start network has no evaluation"
    return max(fmean(tangent(a) for a in accuracies), LEAST_QUALITY)


@dataclass(frozen=True)
class Violations(Formula):
    """Accuracy times ``penalty ** violation`` for each cost, the violation being its share above a threshold.

    Attributes:
        penalty: What is left of the reward of a network at twice a threshold; the default is ours, not the paper's.
        thresholds: Further costs with their thresholds, beside the cost that counts and its target.

    References:
        Zhou et al., Resource-Efficient Neural Architect, 2018, arXiv:1806.07912.
    """

    penalty: float = 0.5
    thresholds: tuple[tuple[str, float], ...] = ()
    options: ClassVar[tuple[str, ...]] = ("penalty", "thresholds")

    def value(self, facts: Facts, frame: Frame, history: History | None) -> float:
        """The product."""
        ratios = [frame.log_ratio(facts)]
        ratios += [clipped(math.log(facts.cost(name)) - math.log(most)) for name, most in self.thresholds]
        violation = sum(max(0.0, math.expm1(ratio)) for ratio in ratios)
        return facts.accuracy * math.exp(max(-700.0, math.log(self.penalty) * violation))

    def costs(self, cost: str) -> tuple[str, ...]:
        """The cost that counts, and those with thresholds."""
        return (cost, *(name for name, _ in self.thresholds))

    def check(self, frame: Frame, chosen: Mapping[str, Any]) -> None:
        """A violation must cost something."""
        require(0 < self.penalty < 1, "penalty", self.penalty, "between 0 and 1")
        require_costs("thresholds", self.thresholds)
        if frame.cost in dict(self.thresholds):
            raise ConfigError(
                f"reward.options: thresholds names {frame.cost}, the cost that counts: its threshold is reward.target "
                "(reward.target_ms of latency)"
            )
