"""The reward of network compression by N2N."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any, ClassVar, Final

from rlnas.errors import ConfigError
from rlnas.rewards.formula import Formula, Frame, require
from rlnas.rewards.history import History
from rlnas.rewards.measured import Facts
from rlnas.rewards.products import LEAST_QUALITY

UNBUILDABLE: Final = -1.0
"""Reward of a network that cannot be built, and of one over the target when the schedule has ended."""


@dataclass(frozen=True)
class Compression(Formula):
    """``C (2 - C) accuracy / accuracy of the start network``, C being the share of the start network's cost saved.

    Above a target that was given, it goes over to -1 as the search proceeds: ``(e - 1) + e * reward`` with
    ``e = (1 - t / iterations) ** 4``. The published code takes that power of a negative number once t exceeds the
    iterations, by which e climbs again and the constraint switches itself off; here t ends at ``iterations``. Networks
    that cost more than the start, which N2N never makes, save nothing and get 0.

    Attributes:
        iterations: Updates of the controller until the target is a hard limit; needs a target.
        rollouts: Evaluations between two updates, which t counts in.

    References:
        Ashok et al., N2N Learning: Network to Network Compression via Policy Gradient Reinforcement Learning,
        ICLR 2018, arXiv:1709.06030.
    """

    iterations: int = 15
    rollouts: int = 5
    options: ClassVar[tuple[str, ...]] = ("iterations", "rollouts")
    looks_back: ClassVar[bool] = True
    signed: ClassVar[bool] = True

    def value(self, facts: Facts, frame: Frame, history: History | None) -> float:
        """The reward; without a history, as at the end of the schedule."""
        start = frame.reference.cost(frame.cost)
        assert start is not None
        saved = max(0.0, 1.0 - facts.cost(frame.cost) / start)
        teacher = max(fmean(frame.reference.accuracies), LEAST_QUALITY)
        reward = saved * (2.0 - saved) * facts.accuracy / teacher
        if not frame.given or frame.log_ratio(facts) <= 0:
            return reward
        leniency = 0.0 if history is None else self.leniency(len(history) // self.rollouts)
        return UNBUILDABLE * (1.0 - leniency) + leniency * reward

    def leniency(self, t: int) -> float:
        """How much of the reward is left to a network over the target at update t, from 1 down to 0."""
        return (1.0 - min(t, self.iterations) / self.iterations) ** 4

    def failure(self, frame: Frame) -> float:
        """-1, as of what cannot be built."""
        return UNBUILDABLE

    def check(self, frame: Frame, chosen: Mapping[str, Any]) -> None:
        """The schedule needs a target."""
        for option in self.options:
            require(getattr(self, option) >= 1, option, getattr(self, option), "at least 1")
            if option in chosen and not frame.given:
                raise ConfigError(f"reward.options: {option} does nothing in this reward without a target: give one")
