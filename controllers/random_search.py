"""Random search: every legal action is as likely as any other."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from rlnas.controllers.search import Masks, SearchController


class RandomSearch(SearchController):
    """Uniform over the legal actions, STOP included.

    Args:
        env: Episodes in lock-step.
        seed: Only source of randomness.
    """

    name: ClassVar[str] = "random"

    def __init__(self, env: VecEnv, *, seed: int) -> None:
        self.arguments = {"seed": seed}
        super().__init__(env, seed=seed)

    def choose(self, masks: Masks, step: int) -> NDArray[np.int64]:
        """A random legal action for each episode."""
        return np.array([self.random_action(mask) for mask in masks])

    def follow(self, mask: Masks, step: int) -> int:
        """A random legal action."""
        return self.random_action(mask)
