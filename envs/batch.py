"""The batched core: many episodes in lock-step, all ended ones scored at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rlnas.envs.protocols import Late, Observation, Problem
from rlnas.errors import ConfigError


@dataclass(frozen=True)
class Transition:
    """What one step of one episode gave."""

    reward: float
    ended: bool
    info: dict[str, Any]


class Batch:
    """Episodes that start and end together.

    STOP is absorbing: after it only STOP is legal until ``max_steps``, so that all episodes end in the same step.

    Args:
        problem: Where the episodes come from, and what scores them.
        n_envs: Number of episodes.
        seed: Evaluation seed of all episodes.
        lag: How many evaluations may still be in work when a batch ends. Such an episode has a reward of 0 and
            ``info["late"]``, a number; with a later batch comes ``info["arrived"]`` of the first episode: a list of
            (number, reward, info). What a learner sees then depends on timing.

    Raises:
        ConfigError: If ``lag`` is not below ``n_envs``.
    """

    def __init__(self, problem: Problem, *, n_envs: int, seed: int, lag: int = 0) -> None:
        if not 0 <= lag < n_envs:
            raise ConfigError(f"lag={lag} must be at least 0 and below the number of episodes in a batch, {n_envs}")
        self.problem = problem
        self.n_envs = n_envs
        self.seed = seed
        self.lag = lag
        self.episodes = [problem.begin() for _ in range(n_envs)]

    def reset(self) -> list[Observation]:
        """Begin new episodes."""
        self.episodes = [self.problem.begin() for _ in range(self.n_envs)]
        return self.observe()

    def observe(self) -> list[Observation]:
        """One observation an episode."""
        return [episode.observe() for episode in self.episodes]

    def step(self, actions: Sequence[int]) -> list[Transition]:
        """Take one action in every episode; after the last step all are evaluated together."""
        legal = [e.step(int(a)) for e, a in zip(self.episodes, actions, strict=True)]
        ended = self.episodes[0].steps_left == 0
        infos: list[dict[str, Any]] = [{"illegal_action": not ok} for ok in legal]
        if not ended:
            return [Transition(0.0, False, info) for info in infos]
        if self.lag:
            return self._early(infos)
        outcomes = self.problem.score(self.episodes, seed=self.seed)
        return [Transition(o.reward, True, info | o.info) for o, info in zip(outcomes, infos, strict=True)]

    def _early(self, infos: list[dict[str, Any]]) -> list[Transition]:
        """The end of a batch that does not wait for all of its evaluations."""
        known, arrived = self.problem.score_early(self.episodes, seed=self.seed, lag=self.lag)
        made = []
        for entry, info in zip(known, infos, strict=True):
            if isinstance(entry, Late):
                made.append(Transition(0.0, True, info | {"late": entry.number}))
            else:
                made.append(Transition(entry.reward, True, info | entry.info))
        made[0].info["arrived"] = [(number, outcome.reward, outcome.info) for number, outcome in arrived]
        return made
