"""The batched core: many episodes in lock-step, all ended ones scored at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rlnas.envs.protocols import Episode, Late, Observation, Outcome, Problem
from rlnas.envs.shaping import Payments
from rlnas.errors import ConfigError


@dataclass(frozen=True)
class Transition:
    """What one step of one episode gave.

    Attributes:
        reward: That of the step.
        ended: True in the last step.
        info: What else is known.
        total: Rewards of the episode so far.
    """

    reward: float
    ended: bool
    info: dict[str, Any]
    total: float = 0.0


class Batch:
    """Episodes that start and end together.

    STOP is absorbing: after it only STOP is legal until ``max_steps``, so that all episodes end in the same step.

    Args:
        problem: Where the episodes come from, and what scores them; or several problems of the same sizes, which the
            episodes take turns at: the first episode of every batch is the first problem's, and so on.
        n_envs: Number of episodes.
        seed: Evaluation seed of all episodes.
        lag: How many evaluations may still be in work when a batch ends. Such an episode has a reward of 0 and
            ``info["late"]``, a number; with a later batch comes ``info["arrived"]`` of the first episode: a list of
            (number, reward, info). What a learner sees then depends on timing.

    Raises:
        ConfigError: If ``lag`` is not below ``n_envs``, or several problems differ in sizes, are more than the
            episodes, or are to have a lag.
    """

    def __init__(self, problem: Problem | Sequence[Problem], *, n_envs: int, seed: int, lag: int = 0) -> None:
        self.problems = list(problem) if isinstance(problem, Sequence) else [problem]
        self._check(n_envs, lag)
        if not 0 <= lag < n_envs:
            raise ConfigError(f"lag={lag} must be at least 0 and below the number of episodes in a batch, {n_envs}")
        self.problem = self.problems[0]
        self.n_envs = n_envs
        self.seed = seed
        self.lag = lag
        self._totals: list[float] = []
        self._payments = [Payments(problem) for problem in self.problems]
        self.episodes = self._begin()

    def reset(self) -> list[Observation]:
        """Begin new episodes."""
        self.episodes = self._begin()
        return self.observe()

    def observe(self) -> list[Observation]:
        """One observation an episode."""
        return [episode.observe() for episode in self.episodes]

    def step(self, actions: Sequence[int]) -> list[Transition]:
        """Take one action in every episode; after the last step all are evaluated together."""
        legal = [e.step(int(a)) for e, a in zip(self.episodes, actions, strict=True)]
        ended = self.episodes[0].steps_left == 0
        infos: list[dict[str, Any]] = [{"illegal_action": not ok} for ok in legal]
        if ended and self.lag:
            return self._early(infos)
        rewards = [0.0] * self.n_envs
        if ended:
            outcomes = self._score()
            rewards = [outcome.reward for outcome in outcomes]
            infos = [info | outcome.info for info, outcome in zip(infos, outcomes, strict=True)]
        paid = self._pay(rewards, infos, ended=ended)
        self._totals = [total + reward for total, reward in zip(self._totals, paid, strict=True)]
        return [Transition(r, ended, i, total) for r, i, total in zip(paid, infos, self._totals, strict=True)]

    def _pay(self, rewards: list[float], infos: list[dict[str, Any]], *, ended: bool) -> list[float]:
        """What the step is paid in each episode, by its own problem."""
        paid, n = list(rewards), len(self.problems)
        for i, payments in enumerate(self._payments):
            paid[i::n] = payments.pay(rewards[i::n], self.episodes[i::n], ended=ended, seed=self.seed)
            for k, info in enumerate(infos[i::n]):
                info |= payments.info(k)
        return paid

    def _begin(self) -> list[Episode]:
        self._totals = [0.0] * self.n_envs
        for i, payments in enumerate(self._payments):
            payments.begin(len(range(i, self.n_envs, len(self.problems))))
        return [self.problems[i % len(self.problems)].begin() for i in range(self.n_envs)]

    def _score(self) -> list[Outcome]:
        """What each episode is worth to its problem."""
        n = len(self.problems)
        scored = [problem.score(self.episodes[i::n], seed=self.seed) for i, problem in enumerate(self.problems)]
        return [scored[i % n][i // n] for i in range(self.n_envs)]

    def _check(self, n_envs: int, lag: int) -> None:
        sizes = {(problem.layout, problem.max_steps) for problem in self.problems}
        if len(sizes) != 1:
            raise ConfigError(
                f"the problems of a batch must have the same sizes, of which there are {len(sizes)}: {sizes}"
            )
        if len(self.problems) > n_envs or (lag and len(self.problems) > 1):
            raise ConfigError(
                f"{len(self.problems)} problems need at least as many episodes in a batch, not {n_envs}, and no lag"
            )

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
