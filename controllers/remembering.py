"""What learners share that keep earlier episodes: to learn from them again, or not to play them again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import torch
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn

from rlnas.controllers.base import Controller, check_lock_step
from rlnas.controllers.buffer import ChoiceBuffer
from rlnas.controllers.memory import LOSSES, Drawn, Memory, Remembered, queue_loss
from rlnas.controllers.policies import SlotPolicy
from rlnas.controllers.without_replacement import EpisodeTree

TREE: Final = "tree."
"""What the names of the tensors of an `EpisodeTree` begin with."""


class Remembering(Controller):
    """Mixin of learners with a `ChoiceBuffer` that may have a memory of earlier episodes.

    Attributes:
        memory: What is remembered; None without one.
        tree: What was played, where no episode is to be played twice; else None.
    """

    memory: Memory | None = None
    tree: EpisodeTree | None = None
    policy: ActorCriticPolicy
    rollout_buffer: RolloutBuffer
    max_grad_norm: float
    _current_progress_remaining: float

    @property
    def exploiting(self) -> bool:
        """True in the last part of training, where nothing but the best episodes of the memory is learned from."""
        after = None if self.memory is None else self.memory.settings.exploit_after
        return after is not None and 1.0 - self._current_progress_remaining >= after

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int
    ) -> bool:
        """Play whole episodes; without replacement if so asked, until the learner settles."""
        play = super().collect_rollouts  # type: ignore[misc]
        if self.tree is None or self.exploiting:
            return bool(play(env, callback, rollout_buffer, n_rollout_steps))
        assert isinstance(self.policy, SlotPolicy)
        self.policy.set_training_mode(False)
        self.tree.begin(self.policy)
        self.logger.record("rollout/new_probability", self.tree.left)
        self.policy.chooser = self.tree
        try:
            whole = bool(play(env, callback, rollout_buffer, n_rollout_steps))
        finally:
            self.policy.chooser = None
        if whole:
            check_lock_step(rollout_buffer, self.tree.length)
        return whole

    def remember(self) -> None:
        """Take in the rollout's episodes, before an update."""
        if self.memory is not None:
            assert isinstance(self.rollout_buffer, ChoiceBuffer)
            self.memory.add(rollout_episodes(self.rollout_buffer))

    def learn_from_memory(self) -> None:
        """Take gradient steps on remembered episodes, after an update."""
        if self.memory is None or not len(self.memory):
            return
        settings, episodes = self.memory.settings, self.memory.episodes
        self.policy.set_training_mode(True)
        losses = []
        n_steps = settings.n_steps
        if self.exploiting:
            n_steps = settings.exploit_n_steps
            ranked = sorted(episodes, key=lambda e: (-e.reward, e.actions.tobytes()))  # of equals always the same
            episodes = ranked[: settings.exploit_size]
        for _ in range(n_steps):
            drawn = self._draw(episodes)
            if self.exploiting:
                loss = queue_loss(drawn)
            else:
                loss = settings.coef * LOSSES[settings.kind](drawn) - settings.ent_coef * drawn.entropy.mean()
            self.policy.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
            self.policy.optimizer.step()
            losses.append(loss.item())
        self.logger.record("train/memory_loss", float(np.mean(losses)))
        self.logger.record("train/memory_best", max(episode.reward for episode in self.memory.episodes))

    def expected_rewards(self, values: Tensor) -> Tensor:
        """What an episode's reward is compared with at each step.

        Args:
            values: The policy's values there, shape (S,).
        """
        return values

    def start_changed(self) -> None:
        """Forget episodes of the former start network."""
        super().start_changed()
        for kept in (self.memory, self.tree):
            if kept is not None:
                kept.clear()

    def tensors(self) -> dict[str, Tensor]:
        """The memory, and what was played."""
        memory = {} if self.memory is None else self.memory.tensors()
        played = {} if self.tree is None else self.tree.tensors()
        return memory | {TREE + name: tensor for name, tensor in played.items()}

    def restore_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up the memory, and what was played."""
        if self.memory is not None:
            self.memory.restore({name: t for name, t in tensors.items() if not name.startswith(TREE)})
        if self.tree is not None:
            self.tree.restore({name.removeprefix(TREE): t for name, t in tensors.items() if name.startswith(TREE)})

    def _draw(self, episodes: Sequence[Remembered]) -> Drawn:
        """Some of the episodes, under the present policy."""
        assert self.memory is not None
        wanted = self.memory.settings.batch_size or len(episodes)
        chosen = [episodes[i] for i in np.random.permutation(len(episodes))[:wanted]]
        rewards = np.array([episode.reward for episode in episodes])
        steps = [len(episode.actions) for episode in chosen]
        observations = {
            name: torch.as_tensor(np.concatenate([episode.observations[name] for episode in chosen]))
            for name in chosen[0].observations
        }
        actions = torch.as_tensor(np.concatenate([episode.actions for episode in chosen]))
        values, log_prob, entropy = self.policy.evaluate_actions(observations, actions)
        assert entropy is not None
        earned = torch.tensor(np.repeat([episode.reward for episode in chosen], steps), dtype=torch.float32)
        deviation = max(float(rewards.std()), 1e-6)
        return Drawn(
            log_prob,
            torch.as_tensor(np.concatenate([episode.log_probs for episode in chosen])),
            entropy,
            (earned - self.expected_rewards(values.detach().flatten())) / deviation,
            len(chosen),
        )


def rollout_episodes(buffer: ChoiceBuffer) -> list[Remembered]:
    """Whole episodes of a full rollout whose rewards are there, and those that enter from earlier rollouts.

    Steps with a single legal action are left out, and so are episodes without a choice.
    """
    there, _ = buffer.episode_rewards
    begins = np.flatnonzero(buffer.episode_starts[:, 0])
    ends = [*begins[1:], buffer.buffer_size]
    found = []
    for begin, end in zip(begins, ends, strict=True):
        for i in range(buffer.n_envs):
            if there[begin, i]:
                entries = {name: entry[begin:end, i] for name, entry in buffer.observations.items()}
                reward = float(buffer.rewards[begin:end, i].sum())
                found.append((entries, buffer.actions[begin:end, i], buffer.log_probs[begin:end, i], reward))
    for steps in buffer.entering:
        found.append((steps.observations, steps.actions, steps.log_probs, steps.reward))
    made = []
    for observations, actions, log_probs, reward in found:
        choices = np.flatnonzero(observations["action_mask"].sum(axis=-1) > 1)
        if len(choices):
            chosen = {name: entry[choices].copy() for name, entry in observations.items()}
            flat = actions.reshape(len(actions), -1)[choices, 0].astype(np.int64)
            made.append(Remembered(chosen, flat, log_probs[choices].astype(np.float32), reward))
    return made
