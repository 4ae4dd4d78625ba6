"""Rewards: pure functions from what was measured about a network to one number that the controller is paid.

Every reward has the same form, ``quality(accuracy) * (cost / target) ** exponent``. They differ in the quality, in the
exponents at or below the target (``alpha``) and above it (``beta``), and in what stands in for a missing target.

References:
    Tan et al., MnasNet, CVPR 2019, arXiv:1807.11626 (soft and hard exponents).
    Cai et al., Efficient Architecture Search by Network Transformation, AAAI 2018, arXiv:1707.04873 (tangent).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final, Protocol

from rlnas.errors import ConfigError, unknown_name

COSTS: Final = ("latency_ms", "macs", "n_params")
HIGHEST_ACCURACY: Final = 0.999
"""Accuracies above it count as it: the tangent of pi/2 is infinite."""
OVER_LIMIT_EXPONENT: Final = -1.0
"""A network at twice its latency limit gets half the reward it would get without a limit."""
_LEAST_QUALITY: Final = 1e-3
_LARGEST_LOG: Final = 600.0


class Measured(Protocol):
    """What a reward looks at; `rlnas.evaluation.Metrics` is one."""

    @property
    def accuracy(self) -> float | None:
        """Share of right answers, in [0, 1]; None if it was not measured."""
        ...

    @property
    def latency_ms(self) -> float | None:
        """Measured latency; None if it was not measured."""
        ...

    @property
    def n_params(self) -> int:
        """Number of parameters."""
        ...

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one sample."""
        ...


@dataclass(frozen=True)
class Reference:
    """The start network, which relative rewards are relative to.

    Attributes:
        accuracies: Accuracies of its evaluations; several, so that the reward does not hang on one noisy number.
        latency_ms: Its latency, if measured.
        n_params: Its parameters.
        macs: Its multiply-accumulates.
        epochs: Passes over training data that each of its evaluations took; None if they train in no such way.
        inherited_epochs: Passes that made the weights they began with; None where nobody knows.
    """

    accuracies: tuple[float, ...]
    latency_ms: float | None
    n_params: int
    macs: int
    epochs: float | None = None
    inherited_epochs: float | None = None

    @classmethod
    def from_metrics(cls, metrics: Sequence[Measured]) -> Reference:
        """Summarize evaluations of one network: all accuracies, and the median of the measured latencies.

        Raises:
            ConfigError: If one of them measured no accuracy.
        """
        assert metrics, "the start network has no evaluation"
        latencies = [m.latency_ms for m in metrics if m.latency_ms is not None]
        return cls(
            accuracies=tuple(_accuracy(m) for m in metrics),
            latency_ms=median(latencies) if latencies else None,
            n_params=metrics[0].n_params,
            macs=metrics[0].macs,
        )

    def cost(self, name: str) -> float | None:
        """One of `COSTS`."""
        return _cost(self, name)


@dataclass(frozen=True)
class Form:
    """One row of `REWARDS`.

    Attributes:
        quality: What an accuracy is worth; not decreasing.
        relative: Whether the quality is divided by the mean quality of the start network's evaluations.
        alpha: Exponent of the cost at or below the target.
        beta: Exponent of the cost above the target.
        start_is_target: Without a target: True puts the start network's cost in its place; False makes the reward
            relative to the start network's cost by ``alpha`` alone, without a bend.
    """

    quality: Callable[[float], float]
    relative: bool
    alpha: float
    beta: float
    start_is_target: bool


def tangent(accuracy: float) -> float:
    """The tangent of a quarter turn times accuracy: the last percents count most."""
    return math.tan(math.pi / 2 * min(accuracy, HIGHEST_ACCURACY))


def _identity(accuracy: float) -> float:
    return accuracy


REWARDS: Final[dict[str, Form]] = {
    "tangent": Form(tangent, relative=True, alpha=-0.07, beta=-1.0, start_is_target=False),
    "mnasnet_soft": Form(_identity, relative=False, alpha=-0.07, beta=-0.07, start_is_target=True),
    "mnasnet_hard": Form(_identity, relative=False, alpha=0.0, beta=-1.0, start_is_target=True),
}
DEFAULT_REWARD: Final = "tangent"


@dataclass(frozen=True)
class Reward:
    """A reward with all its numbers; made by `make_reward`.

    Finite for every accuracy in [0, 1] and every cost above 0, continuous at the target and at the limit, not
    decreasing in accuracy and not increasing in cost.

    Attributes:
        name: Key of `REWARDS`.
        cost: The cost that counts, one of `COSTS`.
        target: Cost at which the exponent changes from ``alpha`` to ``beta``.
        alpha: Exponent at or below the target.
        beta: Exponent above the target.
        scale: What the quality is divided by.
        max_latency_ms: Limit on measured latency.
        reference: The start network.
        failure_reward: Reward of an evaluation that failed: the least that any network can get.
    """

    name: str
    cost: str
    target: float
    alpha: float
    beta: float
    scale: float
    max_latency_ms: float | None
    reference: Reference
    failure_reward: float = 0.0

    @property
    def needs_latency(self) -> bool:
        """Whether networks must be measured for it."""
        return self.cost == "latency_ms" or self.max_latency_ms is not None

    def __call__(self, metrics: Measured | None) -> float:
        """Reward of a network; None, or an accuracy that is not finite, stands for a failed evaluation.

        Raises:
            ConfigError: If what the reward needs was not measured.
        """
        if metrics is None or not math.isfinite(accuracy := _accuracy(metrics)):
            return self.failure_reward
        assert 0.0 <= accuracy <= 1.0
        exponent = _log_penalty(self._known(metrics, self.cost), self.target, self.alpha, self.beta)
        if self.max_latency_ms is not None:
            latency = self._known(metrics, "latency_ms")
            exponent += _log_penalty(latency, self.max_latency_ms, 0.0, OVER_LIMIT_EXPONENT)
        quality = REWARDS[self.name].quality(accuracy) / self.scale
        return quality * math.exp(max(-_LARGEST_LOG, min(_LARGEST_LOG, exponent)))

    def feasible(self, metrics: Measured | None) -> bool:
        """Whether a network may be reported as best: it was evaluated, and its latency is within the limit."""
        if metrics is None or not math.isfinite(_accuracy(metrics)):
            return False
        return self.max_latency_ms is None or self._known(metrics, "latency_ms") <= self.max_latency_ms

    def vector(self, metrics: Measured | None) -> dict[str, float]:
        """The objectives, each to be made large: accuracy, and minus the cost.

        A failed evaluation counts as a network that is never right, at the start network's cost.
        """
        if metrics is None or not math.isfinite(accuracy := _accuracy(metrics)):
            return {"accuracy": 0.0, f"minus_{self.cost}": -self._known(self.reference, self.cost)}
        return {"accuracy": accuracy, f"minus_{self.cost}": -self._known(metrics, self.cost)}

    def _known(self, measured: Measured | Reference, cost: str) -> float:
        value = _cost(measured, cost)
        if value is None:
            raise ConfigError(f"the reward needs {cost}, but the network was not measured: evaluate with a meter")
        assert value > 0 and math.isfinite(value), f"{cost} is {value}"
        return value


def make_reward(
    name: str = DEFAULT_REWARD,
    *,
    reference: Reference,
    cost: str = "latency_ms",
    target: float | None = None,
    target_ms: float | None = None,
    alpha: float | None = None,
    beta: float | None = None,
    max_latency_ms: float | None = None,
) -> Reward:
    """Choose a reward and fill in its numbers.

    Args:
        name: Key of `REWARDS`.
        reference: Evaluations of the start network.
        cost: The cost that counts, one of `COSTS`.
        target: Target of a cost that is not latency, in the cost's unit.
        target_ms: Target latency.
        alpha: Exponent at or below the target, instead of the form's own.
        beta: Exponent above the target, instead of the form's own.
        max_latency_ms: Limit on measured latency. Above it the reward is also divided by how many times the limit is
            exceeded, and the network is not feasible.

    Raises:
        ConfigError: If a name is unknown, a number is out of range, or an option would do nothing.
    """
    if name not in REWARDS:
        raise ConfigError(unknown_name("reward", name, REWARDS))
    if cost not in COSTS:
        raise ConfigError(unknown_name("cost", cost, COSTS))
    _check_options(name, cost, target, target_ms, beta)
    numbers = {"target": target, "target_ms": target_ms, "max_latency_ms": max_latency_ms}
    for option, value in numbers.items():
        if value is not None and not 0 < value < math.inf:
            raise ConfigError(f"reward.{option}={value!r} must be a number above 0")
    for option, value in {"alpha": alpha, "beta": beta}.items():
        if value is not None and not -math.inf < value <= 0:
            raise ConfigError(f"reward.{option}={value!r} must be 0 or less, so that a higher cost never pays")

    start_cost = reference.cost(cost)
    if start_cost is None or (max_latency_ms is not None and reference.latency_ms is None):
        raise ConfigError("the reward needs latency_ms, but the start network was not measured: evaluate with a meter")
    if not 0 < start_cost < math.inf:
        raise ConfigError(f"the start network's {cost} is {start_cost}; a reward relative to it is not defined")

    form = REWARDS[name]
    given = target if cost != "latency_ms" else target_ms
    below = form.alpha if alpha is None else alpha
    above = form.beta if beta is None else beta
    if given is None and not form.start_is_target:
        above = below
    scale = 1.0
    if form.relative:
        assert reference.accuracies, "the start network has no evaluation"
        qualities = [form.quality(a) for a in reference.accuracies]
        scale = max(sum(qualities) / len(qualities), _LEAST_QUALITY)
    return Reward(
        name=name,
        cost=cost,
        target=float(start_cost if given is None else given),
        alpha=below,
        beta=above,
        scale=scale,
        max_latency_ms=max_latency_ms,
        reference=reference,
    )


def _check_options(name: str, cost: str, target: float | None, target_ms: float | None, beta: float | None) -> None:
    """Refuse options that would do nothing."""
    if target_ms is not None and cost != "latency_ms":
        raise ConfigError(
            f"reward.target_ms={target_ms!r} does nothing when reward.cost is {cost}: give reward.target, or set "
            "reward.cost to latency_ms"
        )
    if target is not None and cost == "latency_ms":
        raise ConfigError(
            f"reward.target={target!r} does nothing when reward.cost is latency_ms: give reward.target_ms"
        )
    if beta is not None and target is None and target_ms is None and not REWARDS[name].start_is_target:
        raise ConfigError(f"reward.beta={beta!r} does nothing in the {name} reward without a target: give one")


def _accuracy(metrics: Measured) -> float:
    if metrics.accuracy is None:
        raise ConfigError(
            "rewards are paid for accuracy, and this evaluator measures none (scores are no accuracies): let it choose "
            "what another evaluator trains"
        )
    return metrics.accuracy


def _cost(measured: Measured | Reference, name: str) -> float | None:
    if name == "latency_ms":
        return measured.latency_ms
    return float(measured.macs if name == "macs" else measured.n_params)


def _log_penalty(cost: float, target: float, alpha: float, beta: float) -> float:
    """Logarithm of ``(cost / target) ** exponent``, the exponent being alpha at or below the target and beta above."""
    distance = math.log(cost) - math.log(target)
    return (alpha if distance <= 0 else beta) * distance
