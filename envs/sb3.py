"""The batched core as a Stable-Baselines3 vector environment."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from rlnas.envs.batch import Batch
from rlnas.envs.imagined import ImaginedProblem
from rlnas.envs.planning import PLANS
from rlnas.envs.protocols import Observation, Problem
from rlnas.envs.spaces import action_space, observation_space
from rlnas.errors import ConfigError


class EpisodeVecEnv(VecEnv):
    """Episodes in lock-step; ``infos[i]`` of the last step holds ``evaluation``, ``actions`` and ``episode``.

    Args:
        problem: Where the episodes come from, and what scores them; or several problems of the same sizes, see `Batch`.
        n_envs: Number of episodes.
        seed: Evaluation seed.
        lag: Evaluations that a batch does not wait for; see `Batch`.
    """

    def __init__(self, problem: Problem | Sequence[Problem], *, n_envs: int, seed: int = 0, lag: int = 0) -> None:
        self.batch = Batch(problem, n_envs=n_envs, seed=seed, lag=lag)
        self.max_steps = self.batch.problem.max_steps
        self.render_mode = None
        self._actions: Sequence[int] = ()
        self._begun = time.perf_counter()
        layout = self.batch.problem.layout
        self.variants = layout.names
        super().__init__(n_envs, observation_space(layout), action_space(layout))

    def reset(self) -> dict[str, NDArray[Any]]:
        self._begun = time.perf_counter()
        self.reset_infos = [{} for _ in range(self.num_envs)]
        return _stack(self.batch.reset())

    def step_async(self, actions: NDArray[Any]) -> None:
        self._actions = [int(a) for a in actions]

    def step_wait(
        self,
    ) -> tuple[dict[str, NDArray[Any]], NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        transitions = self.batch.step(self._actions)
        infos = [t.info for t in transitions]
        observations = self.batch.observe()
        if transitions[0].ended:
            seconds = round(time.perf_counter() - self._begun, 6)
            for info, last, transition in zip(infos, observations, transitions, strict=True):
                info["terminal_observation"] = last
                info["TimeLimit.truncated"] = False
                if "late" not in info:
                    info["episode"] = {"r": transition.total, "l": self.max_steps, "t": seconds}
            observations = self.batch.reset()
        rewards = np.array([t.reward for t in transitions], dtype=np.float32)
        return _stack(observations), rewards, np.array([t.ended for t in transitions]), infos

    def finish(self) -> list[dict[str, Any]]:
        """Wait for all evaluations that are late; gives the infos of their episodes."""
        return [outcome.info for problem in self.batch.problems for outcome in problem.finish()]

    @property
    def rejects(self) -> bool:
        """Whether networks that break a limit are not evaluated, instead of being out of reach."""
        spaces = [getattr(problem, "space", None) for problem in self.batch.problems]
        return any(getattr(space, "enforce", "mask") == "reject" for space in spaces)

    def imagined(self, n_envs: int) -> EpisodeVecEnv:
        """As many of the same episodes, without evaluation; see `ImaginedProblem`.

        Raises:
            ConfigError: If there are several problems, for what is legal in one may not be in another.
        """
        if len(self.batch.problems) > 1:
            raise ConfigError("the episodes of several problems cannot be imagined; give one problem")
        return EpisodeVecEnv(ImaginedProblem(self.batch.problem), n_envs=n_envs)

    def action_masks(self) -> NDArray[np.bool_]:
        """True where an action is legal, shape (episodes, actions)."""
        return np.stack([o["action_mask"] for o in self.batch.observe()]).astype(np.bool_)

    def seed(self, seed: int | None = None) -> list[int | None]:
        """Leave the evaluation seed as it was given: a controller's seed must not change what networks are worth."""
        return [None] * self.num_envs

    def close(self) -> None:
        for problem in self.batch.problems:
            problem.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        setattr(self, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        if method_name == "action_masks":
            masks = self.action_masks()
            return [masks[i] for i in self._get_indices(indices)]
        if method_name in PLANS:
            known = PLANS[method_name](self.batch.problem, *args, **kwargs)
            return [known] * len(list(self._get_indices(indices)))
        raise AttributeError(f"the episodes have no method {method_name!r}; only action_masks, {', '.join(PLANS)}")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False] * len(list(self._get_indices(indices)))


def _stack(observations: Sequence[Observation]) -> dict[str, NDArray[Any]]:
    return {name: np.stack([o[name] for o in observations]) for name in observations[0]}
