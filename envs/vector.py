"""The batched core as a Gymnasium vector environment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from rlnas.envs.batch import Batch
from rlnas.envs.protocols import Problem
from rlnas.envs.spaces import action_space, observation_space

Entries = dict[str, NDArray[Any]]


class EpisodeVectorEnv(VectorEnv[Entries, NDArray[Any], NDArray[Any]]):
    """Episodes in lock-step, evaluated together; the step after the last one resets and ignores its actions.

    Args:
        num_envs: Number of episodes.
        problem: Where the episodes come from, and what scores them; or several problems of the same sizes, see `Batch`.
        seed: Seed of evaluations until `reset` gives one.
    """

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP, "render_modes": []}  # noqa: RUF012  (gymnasium's own form)

    def __init__(self, num_envs: int = 1, *, problem: Problem | Sequence[Problem], seed: int = 0) -> None:
        self.batch = Batch(problem, n_envs=num_envs, seed=seed)
        self.problem = self.batch.problem
        layout = self.problem.layout
        self.num_envs = num_envs
        self.single_observation_space = observation_space(layout)
        self.single_action_space = action_space(layout)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._ended = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Entries, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.batch.seed = seed
        self._ended = False
        return self._stack(self.batch.reset()), {}

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[Entries, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        none = np.zeros(self.num_envs, dtype=np.bool_)
        if self._ended:
            observations, nothing = self.reset()
            return observations, np.zeros(self.num_envs), none, none.copy(), nothing
        transitions = self.batch.step([int(a) for a in actions])
        self._ended = transitions[0].ended
        infos: dict[str, Any] = {}
        for i, transition in enumerate(transitions):
            infos = self._add_info(infos, transition.info, i)
        rewards = np.array([t.reward for t in transitions])
        return self._stack(self.batch.observe()), rewards, np.array([t.ended for t in transitions]), none, infos

    def action_masks(self) -> NDArray[np.bool_]:
        """True where an action is legal, shape (episodes, actions)."""
        return np.stack([o["action_mask"] for o in self.batch.observe()]).astype(np.bool_)

    def close_extras(self, **kwargs: Any) -> None:
        for problem in self.batch.problems:
            problem.close()

    def _stack(self, observations: list[Any]) -> Entries:
        return {name: np.stack([o[name] for o in observations]) for name in observations[0]}
