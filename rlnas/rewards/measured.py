"""What rewards look at: what was measured of a network, and of the start network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Final, Protocol

from rlnas.errors import ConfigError

COSTS: Final = ("latency_ms", "macs", "n_params")


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
class Facts:
    """What rewards know of one network, and nothing else.

    Attributes:
        accuracy: Share of right answers, in [0, 1].
        latency_ms: Its latency, if measured.
        n_params: Its parameters.
        macs: Its multiply-accumulates.
    """

    accuracy: float
    latency_ms: float | None
    n_params: int
    macs: int

    @classmethod
    def of(cls, metrics: Measured | None) -> Facts | None:
        """Facts of an evaluation; None of one that failed, or whose accuracy is not finite.

        Raises:
            ConfigError: If no accuracy was measured.
        """
        if metrics is None or not math.isfinite(accuracy := accuracy_of(metrics)):
            return None
        assert 0.0 <= accuracy <= 1.0
        return cls(accuracy, metrics.latency_ms, metrics.n_params, metrics.macs)

    def cost(self, name: str) -> float:
        """One of `COSTS`.

        Raises:
            ConfigError: If it was not measured.
        """
        value = _cost(self, name)
        if value is None:
            raise ConfigError(f"the reward needs {name}, but the network was not measured: evaluate with a meter")
        assert value > 0 and math.isfinite(value), f"{name} is {value}"
        return value


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
            accuracies=tuple(accuracy_of(m) for m in metrics),
            latency_ms=median(latencies) if latencies else None,
            n_params=metrics[0].n_params,
            macs=metrics[0].macs,
        )

    def cost(self, name: str) -> float | None:
        """One of `COSTS`."""
        return _cost(self, name)

    @property
    def facts(self) -> Facts:
        """Facts at the mean accuracy."""
        return Facts(fmean(self.accuracies), self.latency_ms, self.n_params, self.macs)


def accuracy_of(metrics: Measured) -> float:
    """The measured accuracy.

    Raises:
        ConfigError: If there is none.
    """
    if metrics.accuracy is None:
        raise ConfigError(
            "rewards are paid for accuracy, and this evaluator measures none (scores are no accuracies): let it choose "
            "what another evaluator trains"
        )
    return metrics.accuracy


def _cost(measured: Facts | Reference, name: str) -> float | None:
    if name == "latency_ms":
        return measured.latency_ms
    return float(measured.macs if name == "macs" else measured.n_params)
