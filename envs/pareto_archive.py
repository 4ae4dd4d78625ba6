"""A wrapper that gathers what episodes have reached."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import gymnasium as gym

from rlnas.envs.objectives import archive_of, problem_of
from rlnas.report import Archive


class ParetoArchive(gym.Wrapper[Any, Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Keeps the networks that no other one beats, and tells how much they cover together.

    The last step of an episode says the hypervolume so far, ``info["hypervolume"]``, and in ``info["on_front"]`` if the
    episode has changed the front.

    Args:
        env: The environment, of one of rlnas's ids.
        reference: As in `archive_of`.

    Raises:
        ConfigError: At the end of the first episode, if an objective is not known or there is nothing to refer to.
    """

    def __init__(self, env: gym.Env[Any, Any], reference: Mapping[str, float] | None = None) -> None:
        gym.utils.RecordConstructorArgs.__init__(self, reference=reference)
        gym.Wrapper.__init__(self, env)
        self._reference = reference

    @cached_property
    def archive(self) -> Archive:
        """The front as records, and the hypervolume after each episode.

        Where the reference is the start network, that is trained when this is first asked for.
        """
        return archive_of(problem_of(self.env), reference=self._reference)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        if "evaluation" in info:  # a time limit may truncate an episode whose network is not evaluated
            info = info | {"on_front": self.archive.add(info), "hypervolume": self.archive.hypervolume}
        return observation, reward, terminated, truncated, info
