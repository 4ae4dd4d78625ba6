"""A rollout buffer that gives out only the steps at which there was something to choose."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.buffers import DictRolloutBuffer
from stable_baselines3.common.type_aliases import DictRolloutBufferSamples

from rlnas.controllers.policies.memory_policy import CHOICE

NO_CHOICE: Final = "no step of the rollout had more than one legal action"


@dataclass(frozen=True)
class Steps:
    """One whole episode.

    Attributes:
        observations: Entries of the observations, each of shape (steps, ...).
        actions: Actions taken, shape (steps, 1).
        values: Values of the policy that played, shape (steps,).
        log_probs: Log-probabilities of that policy, shape (steps,).
        advantages: Generalized advantages, shape (steps,).
        returns: Advantages plus values, shape (steps,).
        reward: Reward of the last step; the others have none.
    """

    observations: dict[str, NDArray[Any]]
    actions: NDArray[Any]
    values: NDArray[Any]
    log_probs: NDArray[Any]
    advantages: NDArray[Any] = field(default_factory=lambda: np.zeros(0, dtype=np.float32))
    returns: NDArray[Any] = field(default_factory=lambda: np.zeros(0, dtype=np.float32))
    reward: float = 0.0

    @property
    def legal_actions(self) -> NDArray[Any]:
        """Number of legal actions of each step, shape (steps,)."""
        counts: NDArray[Any] = self.observations["action_mask"].sum(axis=-1, dtype=np.int64)
        return counts

    def rewarded(self, reward: float, gamma: float, gae_lambda: float) -> Steps:
        """The episode with its reward, and the returns and advantages that follow from it."""
        values, advantages = self.values.copy(), np.zeros_like(self.values)
        earned, after, advantage = reward, 0.0, 0.0
        for step in reversed(range(len(values))):
            if self.legal_actions[step] == 1:
                values[step] = earned + gamma * after
            advantage = earned + gamma * after - values[step] + gamma * gae_lambda * advantage
            advantages[step] = advantage
            earned, after = 0.0, float(values[step])
        returns = advantages + values
        return replace(self, values=values, advantages=advantages, returns=returns, reward=reward)


class ChoiceBuffer(DictRolloutBuffer):
    """Stable-Baselines3's buffer without forced steps, those with a single legal action.

    After STOP an episode waits, with STOP as its only legal action, until all episodes of the batch end. Such a step
    has a probability of 1 and no entropy, so it carries no policy gradient, but it would weigh in the normalisation of
    advantages, in the mean entropy and in the loss of the value. Here it does not exist for the optimizer, and its
    value, which a bootstrapped return of an earlier step may ask for, is what followed it.

    An episode whose reward is late is held back, and enters the rollout in which the reward arrives, with the
    log-probabilities of the policy that played it.

    Args:
        min_deviation: Advantages are shifted and scaled to mean 0 and deviation 1 over the rollout, and never divided
            by less than this; with None they are left as they are.
        arguments: Those of Stable-Baselines3's buffer.
    """

    def __init__(self, *arguments: Any, min_deviation: float | None = None, **named: Any) -> None:
        self._min_deviation = min_deviation
        super().__init__(*arguments, **named)

    _held: dict[int, Steps]
    _entering: list[Steps]
    _absent: NDArray[np.bool_]

    def reset(self) -> None:
        """Begin a rollout; what is held back stays."""
        super().reset()
        self._held = getattr(self, "_held", {})
        self._entering = []
        self._absent = np.zeros((self.buffer_size, self.n_envs), dtype=np.bool_)
        self._late: list[tuple[int, int, int]] = []  # number, place of the last step, episode
        self._dropped: list[tuple[int, int]] = []  # place of the last step, episode

    def note_late(self, late: Sequence[int | None], arrived: Mapping[int, float]) -> None:
        """Take the step that is added next for what it is; see `Controller.note_late`."""
        self._late += [(number, self.pos, i) for i, number in enumerate(late) if number is not None]
        for number, reward in arrived.items():
            if number in self._held:
                self._entering.append(self._held.pop(number).rewarded(reward, self.gamma, self.gae_lambda))

    def drop(self, episodes: Sequence[int]) -> None:
        """Leave out, for good, the episodes whose last step is added next."""
        self._dropped += [(self.pos, i) for i in episodes]

    @property
    def episode_rewards(self) -> tuple[NDArray[np.bool_], list[float]]:
        """Steps that are there, shape (steps, episodes); and rewards of episodes that enter from earlier rollouts."""
        return ~self._absent, [steps.reward for steps in self._entering]

    @property
    def entering(self) -> list[Steps]:
        """Episodes of earlier rollouts whose rewards have arrived."""
        return list(self._entering)

    def compute_returns_and_advantage(self, last_values: torch.Tensor, dones: NDArray[np.bool_]) -> None:
        """GAE over the steps with a choice.

        Args:
            last_values: Values after the last step, shape (episodes, 1).
            dones: True where the last step ended the episode.
        """
        forced = self._legal_actions() == 1
        after = last_values.clone().cpu().numpy().flatten() * (1.0 - dones)
        for step in reversed(range(self.buffer_size)):
            known = self.rewards[step] + self.gamma * after
            self.values[step] = np.where(forced[step], known, self.values[step])
            after = self.values[step] * (1.0 - self.episode_starts[step])
        super().compute_returns_and_advantage(last_values=last_values, dones=dones)
        for last, i in self._dropped:
            self._absent[self._steps(last, i), i] = True
        for number, last, i in self._late:
            steps = self._steps(last, i)
            self._absent[steps, i] = True
            own = {name: getattr(self, name)[steps, i].copy() for name in ("actions", "values", "log_probs")}
            observations = {name: entry[steps, i].copy() for name, entry in self.observations.items()}
            self._held[number] = Steps(observations, **own)

    def get(self, batch_size: int | None = None) -> Generator[DictRolloutBufferSamples, None, None]:  # type: ignore[override]
        """Minibatches of the steps with a choice, in random order.

        Args:
            batch_size: Steps in one minibatch; all by default.
        """
        assert self.full, "the rollout is not complete"
        if not self.generator_ready:
            there = (self._legal_actions() > 1) & ~self._absent
            choices = np.flatnonzero(self.swap_and_flatten(there))
            entering = [(steps, np.flatnonzero(steps.legal_actions > 1)) for steps in self._entering]
            assert len(choices) + sum(len(own) for _, own in entering) > 0, NO_CHOICE
            for name, entry in self.observations.items():
                more = [steps.observations[name][own] for steps, own in entering]
                self.observations[name] = np.concatenate([self.swap_and_flatten(entry)[choices], *more])
            for name in ("actions", "values", "log_probs", "advantages", "returns"):
                kept = self.swap_and_flatten(getattr(self, name))[choices]
                more = [getattr(steps, name)[own].reshape(-1, *kept.shape[1:]) for steps, own in entering]
                setattr(self, name, np.concatenate([kept, *more]))
            self.advantages = self._normalised(self.advantages)
            self.generator_ready = True
        order = np.random.permutation(len(self.actions))
        for begin in range(0, len(order), batch_size or len(order)):
            yield self._get_samples(order[begin : begin + (batch_size or len(order))])

    def _normalised(self, advantages: NDArray[Any]) -> NDArray[Any]:
        """The advantages of all choices of the rollout, shifted and scaled if so asked."""
        if self._min_deviation is None:
            return advantages
        deviation = advantages.std(ddof=1) if advantages.size > 1 else 0.0
        scaled: NDArray[Any] = (advantages - advantages.mean()) / max(deviation, self._min_deviation)
        return scaled

    def _steps(self, last: int, i: int) -> slice:
        """Steps of the episode of environment ``i`` whose last step has that place."""
        return slice(int(np.flatnonzero(self.episode_starts[: last + 1, i])[-1]), last + 1)

    def _legal_actions(self) -> NDArray[Any]:
        """Number of legal actions of each step, shape (steps, episodes)."""
        counts: NDArray[Any] = self.observations["action_mask"].sum(axis=-1, dtype=np.int64)
        return counts


class EpisodeBuffer(ChoiceBuffer):
    """A `ChoiceBuffer` whose minibatches are whole episodes, for policies that remember.

    Observations are those of every step, episode after episode; all else is that of the steps with a choice only, and
    the entry `CHOICE` of the observations says which they are.

    Args:
        max_steps: Steps of every episode.
    """

    def __init__(self, *arguments: Any, max_steps: int, **named: Any) -> None:
        self._max_steps = max_steps
        super().__init__(*arguments, **named)

    def get(self, batch_size: int | None = None) -> Generator[DictRolloutBufferSamples, None, None]:  # type: ignore[override]
        """Minibatches of whole episodes, in random order.

        Args:
            batch_size: Steps in one minibatch, a multiple of ``max_steps``; all by default.
        """
        assert self.full, "the rollout is not complete"
        if not self.generator_ready:
            there = self._episodes(~self._absent).all(axis=1)
            for name, entry in self.observations.items():
                more = [steps.observations[name][None] for steps in self._entering]
                self.observations[name] = np.concatenate([self._episodes(entry)[there], *more])
            for name in ("actions", "values", "log_probs", "advantages", "returns"):
                kept = self._episodes(getattr(self, name))[there]
                more = [getattr(steps, name).reshape(1, *kept.shape[1:]) for steps in self._entering]
                setattr(self, name, np.concatenate([kept, *more]))
            chosen = self._legal_actions() > 1
            assert chosen.any(), NO_CHOICE
            self.advantages[chosen] = self._normalised(self.advantages[chosen])
            self.generator_ready = True
        choices = self._legal_actions() > 1
        order = np.random.permutation(np.flatnonzero(choices.any(axis=1)))
        size = (batch_size or choices.size) // self._max_steps
        for begin in range(0, len(order), size):
            yield self._whole(order[begin : begin + size], choices)

    def _whole(self, episodes: NDArray[np.int64], choices: NDArray[np.bool_]) -> DictRolloutBufferSamples:
        """The samples of some episodes."""
        asked = choices[episodes]
        observations = {n: self.to_torch(e[episodes].reshape(-1, *e.shape[2:])) for n, e in self.observations.items()}
        return DictRolloutBufferSamples(
            observations=observations | {CHOICE: self.to_torch(asked)},
            actions=self.to_torch(self.actions[episodes][asked]),
            old_values=self.to_torch(self.values[episodes][asked]),
            old_log_prob=self.to_torch(self.log_probs[episodes][asked]),
            advantages=self.to_torch(self.advantages[episodes][asked]),
            returns=self.to_torch(self.returns[episodes][asked]),
        )

    def _episodes(self, entry: NDArray[Any]) -> NDArray[Any]:
        """From (steps, environments, ...) to (episodes, steps of an episode, ...)."""
        return np.swapaxes(entry, 0, 1).reshape(-1, self._max_steps, *entry.shape[2:])
