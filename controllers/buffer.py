"""A rollout buffer that gives out only the steps at which there was something to choose."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.buffers import DictRolloutBuffer
from stable_baselines3.common.type_aliases import DictRolloutBufferSamples


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
    """

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

    def note_late(self, late: Sequence[int | None], arrived: Mapping[int, float]) -> None:
        """Take the step that is added next for what it is; see `Controller.note_late`."""
        self._late += [(number, self.pos, i) for i, number in enumerate(late) if number is not None]
        for number, reward in arrived.items():
            if number in self._held:
                self._entering.append(self._held.pop(number).rewarded(reward, self.gamma, self.gae_lambda))

    @property
    def episode_rewards(self) -> tuple[NDArray[np.bool_], list[float]]:
        """Steps that are there, shape (steps, episodes); and rewards of episodes that enter from earlier rollouts."""
        return ~self._absent, [steps.reward for steps in self._entering]

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
        for number, last, i in self._late:
            first = int(np.flatnonzero(self.episode_starts[: last + 1, i])[-1])
            steps = slice(first, last + 1)
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
            assert len(choices) + sum(len(own) for _, own in entering) > 0, (
                "no step of the rollout had more than one legal action"
            )
            for name, entry in self.observations.items():
                more = [steps.observations[name][own] for steps, own in entering]
                self.observations[name] = np.concatenate([self.swap_and_flatten(entry)[choices], *more])
            for name in ("actions", "values", "log_probs", "advantages", "returns"):
                kept = self.swap_and_flatten(getattr(self, name))[choices]
                more = [getattr(steps, name)[own].reshape(-1, *kept.shape[1:]) for steps, own in entering]
                setattr(self, name, np.concatenate([kept, *more]))
            self.generator_ready = True
        order = np.random.permutation(len(self.actions))
        for begin in range(0, len(order), batch_size or len(order)):
            yield self._get_samples(order[begin : begin + (batch_size or len(order))])

    def _legal_actions(self) -> NDArray[Any]:
        """Number of legal actions of each step, shape (steps, episodes)."""
        counts: NDArray[Any] = self.observations["action_mask"].sum(axis=-1, dtype=np.int64)
        return counts
