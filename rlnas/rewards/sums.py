"""Rewards that subtract from accuracy, or from an error; they can be below 0."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from rlnas.errors import ConfigError
from rlnas.rewards.formula import Formula, Frame, require, require_costs
from rlnas.rewards.history import History
from rlnas.rewards.measured import Facts


@dataclass(frozen=True)
class Absolute(Formula):
    """``accuracy + beta * |cost / target - 1|``: a cost below the target is no better than one as far above it.

    Attributes:
        beta: At twice the target, or for no cost at all, so much accuracy is lost.

    References:
        Bender et al., Can Weight Sharing Outperform Random Architecture Search? (TuNAS), CVPR 2020, arXiv:2008.06120.
    """

    beta: float = -0.1
    options: ClassVar[tuple[str, ...]] = ("beta",)
    signed: ClassVar[bool] = True

    def value(self, facts: Facts, frame: Frame, history: History | None) -> float:
        """The sum."""
        return facts.accuracy + self.beta * abs(math.expm1(frame.log_ratio(facts)))

    def check(self, frame: Frame, chosen: Mapping[str, Any]) -> None:
        """Distance from the target must not pay."""
        require(-math.inf < self.beta <= 0, "beta", self.beta, "0 or less")


@dataclass(frozen=True)
class WeightedSum(Formula):
    """``accuracy_weight * accuracy`` less ``weight * log2(cost / target)`` of each cost.

    Attributes:
        accuracy_weight: Weight of the accuracy.
        weights: Costs with their weights: what a doubling of the cost must bring in accuracy. By default 0.05 for the
            cost that counts, near MnasNet's 5 % of accuracy for twice the latency.
    """

    accuracy_weight: float = 1.0
    weights: tuple[tuple[str, float], ...] = ()
    options: ClassVar[tuple[str, ...]] = ("accuracy_weight", "weights")
    signed: ClassVar[bool] = True

    def value(self, facts: Facts, frame: Frame, history: History | None) -> float:
        """The sum."""
        costs = sum(weight * frame.log_ratio_of(facts, cost) for cost, weight in self._weights(frame.cost))
        return self.accuracy_weight * facts.accuracy - costs / math.log(2)

    def costs(self, cost: str) -> tuple[str, ...]:
        """Those with weights."""
        return tuple(name for name, _ in self._weights(cost))

    def check(self, frame: Frame, chosen: Mapping[str, Any]) -> None:
        """Weights are above 0."""
        weight = self.accuracy_weight
        require(0 < weight < math.inf, "accuracy_weight", weight, "a number above 0")
        require_costs("weights", self.weights)
        if self.weights and frame.cost not in dict(self.weights):
            raise ConfigError(
                f"reward.options: weights must name {frame.cost}, the cost that counts (reward.cost): "
                f"{dict(self.weights)!r} does not"
            )

    def _weights(self, cost: str) -> tuple[tuple[str, float], ...]:
        return self.weights or ((cost, 0.05),)


@dataclass(frozen=True)
class Error(Formula):
    """Minus the error: for limits that are kept before anything is trained.

    References:
        He et al., AMC: AutoML for Model Compression and Acceleration on Mobile Devices, ECCV 2018, arXiv:1802.03494.
    """

    signed: ClassVar[bool] = True

    def value(self, facts: Facts, frame: Frame, history: History | None) -> float:
        """Minus the error."""
        return facts.accuracy - 1.0

    @property
    def aims(self) -> bool:
        """It has no target."""
        return False

    def costs(self, cost: str) -> tuple[str, ...]:
        """None."""
        return ()


@dataclass(frozen=True)
class ErrorTimesLogCost(Formula):
    """Minus the error times the logarithm of the cost: the smaller the network, the less an error weighs.

    References:
        He et al., AMC: AutoML for Model Compression and Acceleration on Mobile Devices, ECCV 2018, arXiv:1802.03494
        (for multiply-accumulates, which its code counts as FLOPs, and for parameters).
    """

    signed: ClassVar[bool] = True

    def value(self, facts: Facts, frame: Frame, history: History | None) -> float:
        """The product."""
        return (facts.accuracy - 1.0) * max(0.0, math.log(facts.cost(frame.cost)))

    @property
    def aims(self) -> bool:
        """It has no target."""
        return False

    def check(self, frame: Frame, chosen: Mapping[str, Any]) -> None:
        """The logarithm is of a count, not of milliseconds, whose unit would decide its sign."""
        if frame.cost == "latency_ms":
            raise ConfigError(
                "this reward takes the logarithm of a count: set reward.cost to macs or n_params, not latency_ms"
            )
