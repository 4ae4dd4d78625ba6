"""Limits on a network's cost that are known before anything is trained."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Any, Final

from rlnas.errors import ConfigError
from rlnas.graph import Graph

LimitSetting = int | float | str | None
"""An absolute number, a multiple of the start network such as ``"4x"``, a share such as ``"60%"``, or no limit."""

_SETTINGS: Final = {
    "n_params": "params",
    "macs": "macs",
    "latency_ms": "predicted_ms",
    "peak_memory_bytes": "memory_bytes",
}
"""Ends of the settings' names, ``max_...`` and ``min_...``, by cost."""


@dataclass(frozen=True)
class Bound:
    """What one cost must lie between.

    Attributes:
        cost: Name of the cost.
        low: It must be at least so much; None for no lower limit.
        high: It must be at most so much; None for no upper limit.
    """

    cost: str
    low: float | None
    high: float | None

    def ratios(self, value: float) -> tuple[float, float]:
        """The cost over its upper limit, and its lower limit over the cost; above 1 is outside, 0 no limit."""
        over = value / self.high if self.high is not None else 0.0
        under = 0.0 if self.low is None else self.low / value if value > 0 else math.inf
        return over, under

    def __str__(self) -> str:
        name = f"predicted {self.cost}" if self.cost == "latency_ms" else self.cost
        words = [f"{name} {sign} {_text(x)}" for sign, x in ((">=", self.low), ("<=", self.high)) if x is not None]
        return " and ".join(words)


@dataclass(frozen=True)
class Limits:
    """Upper and lower limits, all of which a network must keep; None is no limit.

    Attributes:
        n_params: Trained values at most.
        macs: Multiply-accumulates for one sample at most.
        latency_ms: At most, of the latency that ``predict`` gives.
        peak_memory_bytes: Of activations alive at once for one sample, at most.
        min_n_params: At least.
        min_macs: At least.
        min_latency_ms: At least.
        min_peak_memory_bytes: At least.
        predict: Latency of an architecture in milliseconds; needed for limits on it.
    """

    n_params: int | None = None
    macs: int | None = None
    latency_ms: float | None = None
    peak_memory_bytes: int | None = None
    min_n_params: int | None = None
    min_macs: int | None = None
    min_latency_ms: float | None = None
    min_peak_memory_bytes: int | None = None
    predict: Callable[[Graph], float] | None = field(default=None, compare=False, repr=False)

    @classmethod
    def resolve(
        cls,
        start: Graph,
        *,
        predict: Callable[[Graph], float] | None = None,
        max_params: LimitSetting = None,
        max_macs: LimitSetting = None,
        max_predicted_ms: LimitSetting = None,
        max_memory_bytes: LimitSetting = None,
        min_params: LimitSetting = None,
        min_macs: LimitSetting = None,
        min_predicted_ms: LimitSetting = None,
        min_memory_bytes: LimitSetting = None,
    ) -> Limits:
        """Absolute limits from settings that may be relative to the start network.

        Raises:
            ConfigError: If a setting is not a number above 0, ``"4x"`` or ``"60%"``, if a lower limit is above the
                upper one, or if nothing predicts latency.
        """
        upper = (max_params, max_macs, max_predicted_ms, max_memory_bytes)
        lower = (min_params, min_macs, min_predicted_ms, min_memory_bytes)
        found: dict[str, Any] = {}
        for (cost, end), most, least in zip(_SETTINGS.items(), upper, lower, strict=True):
            if most is None and least is None:
                continue
            if cost == "latency_ms" and predict is None:
                name, given = (f"max_{end}", most) if most is not None else (f"min_{end}", least)
                raise ConfigError(
                    f"{name}={given!r} needs a meter that knows latency beforehand: "
                    "latency.meter=table or latency.meter=predictor"
                )
            of_start = cost_of(start, cost, predict)
            top, bottom = _absolute(f"max_{end}", most, of_start), _absolute(f"min_{end}", least, of_start)
            whole = cost != "latency_ms"
            high = None if top is None else math.floor(top) if whole else float(top)
            low = None if bottom is None else math.ceil(bottom) if whole else float(bottom)
            if high == 0:
                raise ConfigError(_no_limit(f"max_{end}", most))
            if high is not None and low is not None and low > high:
                raise ConfigError(
                    f"min_{end}={least!r} is above max_{end}={most!r} ({_text(low)} and {_text(high)}): "
                    "nothing lies between them"
                )
            found |= {cost: high, f"min_{cost}": low}
        return cls(**found, predict=predict if "latency_ms" in found else None)

    @cached_property
    def bounds(self) -> tuple[Bound, ...]:
        """The costs that are limited."""
        all_bounds = [Bound(cost, getattr(self, f"min_{cost}"), getattr(self, cost)) for cost in _SETTINGS]
        return tuple(b for b in all_bounds if b.low is not None or b.high is not None)

    def ratios(self, graph: Graph) -> list[tuple[float, float]]:
        """`Bound.ratios` of each limited cost."""
        return [bound.ratios(cost_of(graph, bound.cost, self.predict)) for bound in self.bounds]

    def excess(self, graph: Graph) -> float:
        """Largest ratio of a cost to its upper limit, or of a lower limit to its cost.

        At most 1 if all limits are met, 0 without limits.
        """
        return max((ratio for pair in self.ratios(graph) for ratio in pair), default=0.0)

    def met_by(self, graph: Graph) -> bool:
        """True if the graph keeps every limit."""
        return self.excess(graph) <= 1.0

    def __str__(self) -> str:
        return " and ".join(map(str, self.bounds)) or "no limit"

    def costs(self, graph: Graph) -> str:
        """What a graph costs, in words."""
        named = dict.fromkeys(("n_params", "macs", *(bound.cost for bound in self.bounds)))
        words = [f"{name}={_text(cost_of(graph, name, self.predict))}" for name in named]
        return ", ".join(word.replace("latency_ms", "predicted latency_ms") for word in words)


def cost_of(graph: Graph, cost: str, predict: Callable[[Graph], float] | None) -> float:
    """One of the costs that can be limited."""
    if cost == "latency_ms":
        assert predict is not None, "a limit on latency needs something that predicts it"
        return predict(graph)
    value: int = getattr(graph, cost)
    return value


def _text(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _absolute(name: str, setting: LimitSetting, start: float) -> Fraction | None:
    """The limit as it was written: in binary, 150 % of 100 may be more than 150."""
    if setting is None:
        return None
    match = re.fullmatch(r"\s*([0-9.]+(?:[eE][-+]?[0-9]+)?)\s*(x|%|)\s*", str(setting))
    try:
        value = Fraction(match.group(1)) if match else Fraction(0)
        if match and match.group(2):
            value *= Fraction(start) / (1 if match.group(2) == "x" else 100)
        if 0 < float(value) < math.inf:
            return value
    except (ValueError, OverflowError):
        pass
    raise ConfigError(_no_limit(name, setting))


def _no_limit(name: str, setting: LimitSetting) -> str:
    return f"{name}={setting!r} is not a limit; give a number such as 50000, '4x' the start, or '60%' of it"
