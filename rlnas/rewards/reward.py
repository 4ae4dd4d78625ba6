"""A reward with all its numbers, and how one is chosen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rlnas.errors import ConfigError, unknown_name
from rlnas.rewards.formula import LARGEST_LOG, Formula, Frame
from rlnas.rewards.history import History
from rlnas.rewards.measured import COSTS, Facts, Measured, Reference
from rlnas.rewards.registry import DEFAULT_REWARD, REWARDS


@dataclass(frozen=True)
class Reward:
    """A reward with all its numbers; made by `make_reward`.

    Finite for every accuracy in [0, 1] and every cost above 0, not singular at the target, and not decreasing in
    accuracy.

    Attributes:
        name: Key of `REWARDS`.
        formula: The row of `REWARDS`, with its constants.
        frame: What the formula is relative to.
        max_latency_ms: Limit on measured latency.
    """

    name: str
    formula: Formula
    frame: Frame
    max_latency_ms: float | None

    @property
    def cost(self) -> str:
        """The cost that counts, one of `COSTS`."""
        return self.frame.cost

    @property
    def target(self) -> float:
        """Its target: the one given, or the start network's cost."""
        return self.frame.target

    @property
    def reference(self) -> Reference:
        """The start network."""
        return self.frame.reference

    @property
    def looks_back(self) -> bool:
        """Whether what is paid depends on what was evaluated before."""
        return self.formula.looks_back

    @cached_property
    def failure_reward(self) -> float:
        """What a failed evaluation is paid."""
        return self.formula.failure(self.frame)

    @property
    def needs_latency(self) -> bool:
        """Whether networks must be measured for it."""
        return "latency_ms" in (self.cost, *self.formula.costs(self.cost)) or self.max_latency_ms is not None

    def __call__(self, metrics: Measured | None, history: History | None = None) -> float:
        """Reward of a network; None, or an accuracy that is not finite, stands for a failed evaluation.

        Args:
            history: What was evaluated before: gives what the controller is paid. Without it: what the network is worth
                by itself, by which networks are compared. Most rewards make no difference.

        Raises:
            ConfigError: If what the reward needs was not measured.
        """
        facts = Facts.of(metrics)
        if facts is None:
            return self.failure_reward
        value = self.formula.value(facts, self.frame, history)
        if self.max_latency_ms is None:
            return value
        excess = math.log(facts.cost("latency_ms")) - math.log(self.max_latency_ms)
        return value if excess <= 0 else self.over_limit(value, excess)

    def over_limit(self, value: float, log_excess: float) -> float:
        """The reward of a network over a limit, from what it would be without the limit.

        Args:
            log_excess: Logarithm of how many times the limit is exceeded.
        """
        return self.formula.over_limit(value, min(log_excess, LARGEST_LOG))

    def facts(self, metrics: Measured | None) -> Facts | None:
        """What a `History` keeps of an evaluation: None if it failed or is over the limit on latency."""
        return Facts.of(metrics) if self.feasible(metrics) else None

    def feasible(self, metrics: Measured | None) -> bool:
        """Whether a network may be reported as best: it was evaluated, and its latency is within the limit."""
        facts = Facts.of(metrics)
        if facts is None:
            return False
        return self.max_latency_ms is None or facts.cost("latency_ms") <= self.max_latency_ms

    def vector(self, metrics: Measured | None) -> dict[str, float]:
        """The objectives, each to be made large: accuracy, and minus the cost.

        A failed evaluation counts as a network that is never right, at the start network's cost.
        """
        facts = Facts.of(metrics)
        accuracy, source = (0.0, self.reference.facts) if facts is None else (facts.accuracy, facts)
        return {"accuracy": accuracy, f"minus_{self.cost}": -source.cost(self.cost)}


def make_reward(
    name: str = DEFAULT_REWARD,
    *,
    reference: Reference,
    cost: str = "latency_ms",
    target: float | None = None,
    target_ms: float | None = None,
    max_latency_ms: float | None = None,
    options: Mapping[str, Any] | None = None,
) -> Reward:
    """Choose a reward and fill in its numbers.

    Args:
        name: Key of `REWARDS`.
        reference: Evaluations of the start network.
        cost: The cost that counts, one of `COSTS`.
        target: Target of a cost that is not latency, in the cost's unit.
        target_ms: Target latency.
        max_latency_ms: Limit on measured latency. Above it the reward falls as `Formula.over_limit` says, and the
            network is not feasible.
        options: Constants of the reward, instead of its own: the ``options`` of its row.

    Raises:
        ConfigError: If a name is unknown, a number is out of range, or an option would do nothing.
    """
    if name not in REWARDS:
        raise ConfigError(unknown_name("reward", name, REWARDS))
    if cost not in COSTS:
        raise ConfigError(unknown_name("cost", cost, COSTS))
    chosen = dict(options or {})
    formula = REWARDS[name].with_options(name, chosen)
    _check_target(name, formula, cost, target, target_ms)
    for option, value in {"target": target, "target_ms": target_ms, "max_latency_ms": max_latency_ms}.items():
        if value is not None and not 0 < value < math.inf:
            raise ConfigError(f"reward.{option}={value!r} must be a number above 0")
    given = target if cost != "latency_ms" else target_ms
    start_cost = reference.cost(cost)
    frame = Frame(reference, cost, float(start_cost or 1.0) if given is None else float(given), given is not None)
    formula.check(frame, chosen)
    reward = Reward(name, formula, frame, max_latency_ms)
    if reward.needs_latency and reference.latency_ms is None:
        raise ConfigError("the reward needs latency_ms, but the start network was not measured: evaluate with a meter")
    for known in dict.fromkeys((cost, *formula.costs(cost))):
        if not 0 < (value := reference.cost(known) or 0.0) < math.inf:
            raise ConfigError(f"the start network's {known} is {value:g}; a reward relative to it is not defined")
    return reward


def _check_target(name: str, formula: Formula, cost: str, target: float | None, target_ms: float | None) -> None:
    """Refuse a target that would do nothing."""
    if target_ms is not None and cost != "latency_ms":
        raise ConfigError(
            f"reward.target_ms={target_ms!r} does nothing when reward.cost is {cost}: give reward.target, or set "
            "reward.cost to latency_ms"
        )
    if target is not None and cost == "latency_ms":
        raise ConfigError(
            f"reward.target={target!r} does nothing when reward.cost is latency_ms: give reward.target_ms"
        )
    if (target is not None or target_ms is not None) and not formula.aims:
        option = "target" if target_ms is None else "target_ms"
        raise ConfigError(f"reward.{option} does nothing in the reward {name!r}, which has no target: leave it out")
