"""A rollout buffer that gives out only the steps at which there was something to choose."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.buffers import DictRolloutBuffer
from stable_baselines3.common.type_aliases import DictRolloutBufferSamples


class ChoiceBuffer(DictRolloutBuffer):
    """Stable-Baselines3's buffer without forced steps, those with a single legal action.

    After STOP an episode waits, with STOP as its only legal action, until all episodes of the batch end. Such a step
    has a probability of 1 and no entropy, so it carries no policy gradient, but it would weigh in the normalisation of
    advantages, in the mean entropy and in the loss of the value. Here it does not exist for the optimizer, and its
    value, which a bootstrapped return of an earlier step may ask for, is what followed it.
    """

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

    def get(self, batch_size: int | None = None) -> Generator[DictRolloutBufferSamples, None, None]:  # type: ignore[override]
        """Minibatches of the steps with a choice, in random order.

        Args:
            batch_size: Steps in one minibatch; all by default.
        """
        assert self.full, "the rollout is not complete"
        if not self.generator_ready:
            choices = np.flatnonzero(self.swap_and_flatten(self._legal_actions()) > 1)
            assert len(choices) > 0, "no step of the rollout had more than one legal action"
            for name, entry in self.observations.items():
                self.observations[name] = self.swap_and_flatten(entry)[choices]
            for name in ("actions", "values", "log_probs", "advantages", "returns"):
                setattr(self, name, self.swap_and_flatten(getattr(self, name))[choices])
            self.generator_ready = True
        order = np.random.permutation(len(self.actions))
        for begin in range(0, len(order), batch_size or len(order)):
            yield self._get_samples(order[begin : begin + (batch_size or len(order))])

    def _legal_actions(self) -> NDArray[Any]:
        """Number of legal actions of each step, shape (steps, episodes)."""
        counts: NDArray[Any] = self.observations["action_mask"].sum(axis=-1, dtype=np.int64)
        return counts
