"""All rewards by name, with the constants of the papers that they come from."""

from __future__ import annotations

from typing import Final

from rlnas.rewards.compression import Compression
from rlnas.rewards.formula import Formula
from rlnas.rewards.looking_back import HypervolumeGain, Rank
from rlnas.rewards.products import Power, Violations
from rlnas.rewards.sums import Absolute, Error, ErrorTimesLogCost, WeightedSum

_BY_THEMSELVES: Final[dict[str, Formula]] = {
    "tangent": Power(alpha=-0.07, beta=-1.0, quality="tangent", start_is_target=False),
    "mnasnet_soft": Power(alpha=-0.07, beta=-0.07),
    "mnasnet_hard": Power(alpha=0.0, beta=-1.0),
    "proxylessnas": Power(alpha=-0.1, beta=-0.1),
    "rena": Violations(),
    "tunas": Absolute(),
    "weighted_sum": WeightedSum(),
    "amc_error": Error(),
    "amc_cost": ErrorTimesLogCost(),
}

REWARDS: Final[dict[str, Formula]] = _BY_THEMSELVES | {
    "n2n": Compression(),
    "rank": Rank(formulas=_BY_THEMSELVES),
    "hypervolume": HypervolumeGain(),
}
DEFAULT_REWARD: Final = "tangent"
