"""Rewards as vectors, as mo-gymnasium and what is built on it expect them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from rlnas.envs.objectives import Span, failure, problem_of, spans
from rlnas.errors import ConfigError, unknown_name


class VectorReward(gym.Wrapper[Any, Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Lets `step` return one reward for each objective: zeros, and at the end of the episode what was reached.

    These are the entries of ``info["reward_vector"]``, each to be made large: accuracy or score, costs with a minus.
    What an episode without such a vector gets, because its network failed or broke a limit, is the worst value of each
    objective where results are looked up, and no accuracy at the start network's cost where networks are trained. An
    episode that a time limit truncates, whose network is not evaluated, gets zeros.

    mo-gymnasium's wrappers look for ``reward_space`` in ``env.unwrapped``: that is this environment, and not the one in
    it, whose reward is one number; ``env.env.unwrapped`` is that one.

    Args:
        env: The environment, of one of rlnas's ids.
        objectives: Those that count, in this order, each with its lowest and highest value, by which what is beyond is
            cut off; an episode without a vector gets the lowest. By default all that the problem has.

    Attributes:
        objectives: Names of the reward's entries.
        reward_space: Box of the entries, float32. The lowest is minus infinity where no limit bounds a cost.
        reward_dim: Number of entries.

    Raises:
        ConfigError: If an objective is not known, or its range is none.
    """

    def __init__(self, env: gym.Env[Any, Any], objectives: Mapping[str, Span] | None = None) -> None:
        gym.utils.RecordConstructorArgs.__init__(self, objectives=objectives)
        gym.Wrapper.__init__(self, env)
        self._given = None if objectives is None else _checked(objectives)
        ranges = spans(problem_of(env)) if self._given is None else self._given
        self.objectives = tuple(ranges)
        lowest, highest = np.array(list(ranges.values()), np.float32).T
        self.reward_space = gym.spaces.Box(lowest, highest, dtype=np.float32)
        self.reward_dim = len(ranges)

    @property
    def unwrapped(self) -> gym.Env[Any, Any]:
        """This environment, which is one of vector rewards."""
        return self

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, _, terminated, truncated, info = self.env.step(action)
        reward = np.zeros(self.reward_dim, np.float32)
        if "reward_vector" in info:
            reward = self._vector(info["reward_vector"])
        return observation, reward, terminated, truncated, info

    def _vector(self, given: Mapping[str, float] | None) -> NDArray[np.float32]:
        """The entries that count, within their ranges."""
        found = self._failure() if given is None else given
        for name in self.objectives:
            if name not in found:
                raise ConfigError(unknown_name("objective", name, found))
        if not all(math.isfinite(found[name]) for name in self.objectives):  # a table need not know everything
            found = {name: found[name] if math.isfinite(found[name]) else low for name, low in self._failure().items()}
        values = np.array([found[name] for name in self.objectives], np.float32)
        return np.clip(values, self.reward_space.low, self.reward_space.high)

    def _failure(self) -> Mapping[str, float]:
        if self._given is not None:
            return {name: low for name, (low, _) in self._given.items()}
        return failure(problem_of(self.env))


def _checked(objectives: Mapping[str, Span]) -> dict[str, Span]:
    """Objectives as floats.

    Raises:
        ConfigError: If there are none, or a range is none.
    """
    if not objectives:
        raise ConfigError("objectives is empty; name at least one, with its lowest and highest value")
    for name, (low, high) in objectives.items():
        if not -math.inf < low < high:
            raise ConfigError(f"the objective {name} cannot lie between {low} and {high}")
    return {name: (float(low), float(high)) for name, (low, high) in objectives.items()}
