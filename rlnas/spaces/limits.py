"""Limits on a network's cost that are known before anything is trained."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from rlnas.errors import ConfigError
from rlnas.graph import Graph

LimitSetting = int | float | str | None
"""An absolute number, a multiple of the start network such as ``"4x"``, a share such as ``"60%"``, or no limit."""


@dataclass(frozen=True)
class Limits:
    """Upper limits; None is no limit.

    Attributes:
        n_params: Trained values.
        macs: Multiply-accumulates for one sample.
        latency_ms: Latency that ``predict`` gives.
        predict: Latency of an architecture in milliseconds; needed for that limit.
    """

    n_params: int | None = None
    macs: int | None = None
    latency_ms: float | None = None
    predict: Callable[[Graph], float] | None = field(default=None, compare=False, repr=False)

    @classmethod
    def resolve(
        cls,
        start: Graph,
        *,
        max_params: LimitSetting = None,
        max_macs: LimitSetting = None,
        max_predicted_ms: LimitSetting = None,
        predict: Callable[[Graph], float] | None = None,
    ) -> Limits:
        """Absolute limits from settings that may be relative to the start network.

        Raises:
            ConfigError: If a setting is not a number above 0, ``"4x"`` or ``"60%"``, or nothing predicts latency.
        """
        latency_ms = None
        if max_predicted_ms is not None:
            if predict is None:
                raise ConfigError(
                    f"max_predicted_ms={max_predicted_ms!r} needs a meter that knows latency beforehand: "
                    "latency.meter=table or latency.meter=predictor"
                )
            latency_ms = _absolute("max_predicted_ms", max_predicted_ms, predict(start))
        n_params = _whole("max_params", max_params, start.n_params)
        macs = _whole("max_macs", max_macs, start.macs)
        return cls(n_params, macs, latency_ms, None if latency_ms is None else predict)

    def excess(self, graph: Graph) -> float:
        """Largest ratio of a cost to its limit; at most 1 if all limits are met, 0 without limits."""
        ratios = [graph.n_params / self.n_params] if self.n_params else []
        ratios += [graph.macs / self.macs] if self.macs else []
        if self.latency_ms and self.predict:
            ratios.append(self.predict(graph) / self.latency_ms)
        return max(ratios, default=0.0)

    def met_by(self, graph: Graph) -> bool:
        """True if the graph keeps every limit."""
        return self.excess(graph) <= 1.0

    def __str__(self) -> str:
        words = [f"n_params <= {self.n_params:,}"] if self.n_params else []
        words += [f"macs <= {self.macs:,}"] if self.macs else []
        words += [f"predicted latency_ms <= {self.latency_ms:.4g}"] if self.latency_ms else []
        return " and ".join(words) or "no limit"

    def costs(self, graph: Graph) -> str:
        """What a graph costs, in words."""
        words = [f"n_params={graph.n_params:,}", f"macs={graph.macs:,}"]
        words += [f"predicted latency_ms={self.predict(graph):.4g}"] if self.predict else []
        return ", ".join(words)


def _whole(name: str, setting: LimitSetting, start: int) -> int | None:
    value = _absolute(name, setting, start)
    if value is not None and value < 1:
        raise ConfigError(_no_limit(name, setting))
    return None if value is None else int(value)


def _absolute(name: str, setting: LimitSetting, start: float) -> float | None:
    if setting is None:
        return None
    value: float
    if isinstance(setting, str):
        match = re.fullmatch(r"\s*([0-9.]+(?:[eE][-+]?[0-9]+)?)\s*(x|%|)\s*", setting)
        try:
            value = float(match.group(1)) if match else 0.0
        except ValueError:
            value = 0.0
        if match and match.group(2):
            value *= start if match.group(2) == "x" else start / 100.0
    else:
        value = float(setting)
    if not 0 < value < float("inf"):
        raise ConfigError(_no_limit(name, setting))
    return value


def _no_limit(name: str, setting: LimitSetting) -> str:
    return f"{name}={setting!r} is not a limit; give a number such as 50000, '4x' the start, or '60%' of it"
