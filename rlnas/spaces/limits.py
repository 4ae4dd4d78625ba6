"""Limits on a network's cost that are known before anything is trained."""

from __future__ import annotations

import re
from dataclasses import dataclass

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
    """

    n_params: int | None = None
    macs: int | None = None

    @classmethod
    def resolve(cls, start: Graph, *, max_params: LimitSetting = None, max_macs: LimitSetting = None) -> Limits:
        """Absolute limits from settings that may be relative to the start network.

        Raises:
            ConfigError: If a setting is not a number above 0, ``"4x"`` or ``"60%"``.
        """
        return cls(
            n_params=_absolute("max_params", max_params, start.n_params),
            macs=_absolute("max_macs", max_macs, start.macs),
        )

    def excess(self, graph: Graph) -> float:
        """Largest ratio of a cost to its limit; at most 1 if all limits are met, 0 without limits."""
        ratios = [graph.n_params / self.n_params] if self.n_params else []
        ratios += [graph.macs / self.macs] if self.macs else []
        return max(ratios, default=0.0)

    def met_by(self, graph: Graph) -> bool:
        """True if the graph keeps every limit."""
        return self.excess(graph) <= 1.0

    def __str__(self) -> str:
        words = [f"n_params <= {self.n_params:,}"] if self.n_params else []
        words += [f"macs <= {self.macs:,}"] if self.macs else []
        return " and ".join(words) or "no limit"


def _absolute(name: str, setting: LimitSetting, start: int) -> int | None:
    if setting is None:
        return None
    value: float
    if isinstance(setting, str):
        match = re.fullmatch(r"\s*([0-9.]+(?:[eE][0-9]+)?)\s*(x|%|)\s*", setting)
        try:
            value = float(match.group(1)) if match else 0.0
        except ValueError:
            value = 0.0
        if match and match.group(2):
            value *= start if match.group(2) == "x" else start / 100.0
    else:
        value = float(setting)
    if not 1 <= value < float("inf"):
        raise ConfigError(
            f"{name}={setting!r} is not a limit; give a number such as 50000, '4x' the start, or '60%' of it"
        )
    return int(value)
