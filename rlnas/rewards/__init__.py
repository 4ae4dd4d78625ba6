"""Rewards: pure functions from what was measured about a network, and before it, to what the controller is paid."""

from rlnas.rewards.formula import Formula, Frame
from rlnas.rewards.history import History
from rlnas.rewards.measured import COSTS, Facts, Measured, Reference
from rlnas.rewards.products import HIGHEST_ACCURACY, tangent
from rlnas.rewards.registry import DEFAULT_REWARD, REWARDS
from rlnas.rewards.reward import Reward, make_reward

__all__ = [
    "COSTS",
    "DEFAULT_REWARD",
    "HIGHEST_ACCURACY",
    "REWARDS",
    "Facts",
    "Formula",
    "Frame",
    "History",
    "Measured",
    "Reference",
    "Reward",
    "make_reward",
    "tangent",
]
