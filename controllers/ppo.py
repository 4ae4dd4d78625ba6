"""Proximal policy optimization with the masked slot policy."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import stable_baselines3
import torch
from stable_baselines3.common.vec_env import VecEnv

from rlnas.controllers.base import check_lock_step, check_positive, episode_steps, rollout_steps
from rlnas.controllers.buffer import ChoiceBuffer
from rlnas.controllers.memory import Memory, MemorySettings
from rlnas.controllers.policies import SlotPolicy
from rlnas.controllers.remembering import Remembering
from rlnas.controllers.without_replacement import EpisodeTree
from rlnas.errors import ConfigError


class PPO(Remembering, stable_baselines3.PPO):
    """Stable-Baselines3's PPO, with a policy that masks illegal actions and an optimizer that sees only real choices.

    The advantages of a rollout, not of each minibatch, are shifted and scaled, and never by more than
    ``1 / min_deviation``: where all episodes went the same way, there is nothing but the critic's error to learn from.

    Args:
        env: Episodes in lock-step; its ``max_steps`` is an episode's length.
        seed: Seed of the policy, its samples and its minibatches.
        learning_rate: Step size of Adam.
        n_steps: Steps of each environment in one rollout, a multiple of the episode's length; by default one episode.
        batch_size: Steps in a minibatch; by default the whole rollout.
        n_epochs: Passes over a rollout.
        gamma: Discount.
        gae_lambda: Trade-off of bias and variance; 1 is the return minus the value.
        clip_range: How far the probability of an action may move in one update.
        ent_coef: Weight of the entropy of the legal actions.
        vf_coef: Weight of the value's loss.
        max_grad_norm: Gradients are clipped to this norm.
        normalize_advantage: Shift and scale the advantages of a rollout to mean 0 and deviation 1.
        min_deviation: Advantages are never divided by less.
        target_kl: Stop an update early beyond 1.5 times this divergence.
        policy_kwargs: Further arguments of `SlotPolicy`.
        memory: Settings of a memory of earlier episodes; see `MemorySettings`.
        without_replacement: Play no episode a second time, until ``exploit_after`` of the memory; see
            `rlnas.controllers.without_replacement`.
        rank: Learn from ranks instead of rewards: from -1 to 1, the share of the last returns that are lower less the
            share that are higher. It does not mind how rewards are scaled, nor a few that are far out.
        history: Past returns that ranks are taken among; those of the first rollout are compared with each other.

    Raises:
        ConfigError: If an argument is out of range, or ``n_steps`` is no multiple of the episode's length.

    References:
        Schulman et al., Proximal Policy Optimization Algorithms, 2017, arXiv:1707.06347.
    """

    name: ClassVar[str] = "ppo"
    slot_policy: ClassVar[type[SlotPolicy]] = SlotPolicy
    buffer: ClassVar[type[ChoiceBuffer]] = ChoiceBuffer

    def __init__(
        self,
        env: VecEnv,
        *,
        seed: int,
        learning_rate: float = 5e-3,
        n_steps: int | None = None,
        batch_size: int | None = None,
        n_epochs: int = 6,
        gamma: float = 1.0,
        gae_lambda: float = 1.0,
        clip_range: float = 0.2,
        ent_coef: float = 0.01,
        vf_coef: float = 0.5,
        max_grad_norm: float = 0.5,
        normalize_advantage: bool = True,
        min_deviation: float = 1e-3,
        target_kl: float | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        memory: dict[str, Any] | None = None,
        without_replacement: bool = False,
        rank: bool = False,
        history: int = 100,
    ) -> None:
        self.arguments = {k: v for k, v in locals().items() if k not in ("self", "env", "__class__")}
        check_positive(
            learning_rate=learning_rate,
            batch_size=batch_size,
            n_epochs=n_epochs,
            clip_range=clip_range,
            min_deviation=min_deviation,
            history=history,
        )
        self.rank = rank
        self.history: deque[float] = deque(maxlen=history)
        settings = MemorySettings.of(memory)
        if settings is not None and self.buffer is not ChoiceBuffer:
            raise ConfigError(f"{self.name} takes no memory of earlier episodes; only ppo and reinforce do")
        if without_replacement and self.buffer is not ChoiceBuffer:
            raise ConfigError(f"{self.name} does not play without replacement; only ppo and reinforce do")
        self.memory = None if settings is None else Memory(settings)
        self.tree = EpisodeTree(episode_steps(env)) if without_replacement else None
        steps = rollout_steps(env, n_steps)
        size = steps * env.num_envs if batch_size is None else batch_size
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", "You have specified a mini-batch size"
            )  # a rollout has no fixed size here
            super().__init__(
                self.slot_policy,
                env,
                learning_rate=learning_rate,
                n_steps=steps,
                batch_size=size,
                n_epochs=n_epochs,
                gamma=gamma,
                gae_lambda=gae_lambda,
                clip_range=clip_range,
                ent_coef=ent_coef,
                vf_coef=vf_coef,
                max_grad_norm=max_grad_norm,
                normalize_advantage=False,  # the buffer does
                target_kl=target_kl,
                rollout_buffer_class=self.buffer,
                rollout_buffer_kwargs={"min_deviation": min_deviation if normalize_advantage else None},
                policy_kwargs=dict(policy_kwargs or {}),
                seed=seed,
                device="cpu",
            )

    def train(self) -> None:
        """Update the policy on the rollout, and on remembered episodes; on these alone when it settles."""
        self.remember()
        if self.rank:
            self._pay_by_rank()
        if not self.exploiting:
            super().train()
        self.learn_from_memory()

    def note_late(self, late: Sequence[int | None], arrived: Mapping[int, float]) -> None:
        """Let the rollout buffer hold back what is late, and take what arrived."""
        assert isinstance(self.rollout_buffer, ChoiceBuffer)
        ranked = (
            {number: _ranks([reward], list(self.history))[0] for number, reward in arrived.items()}
            if self.rank
            else arrived
        )
        self.history.extend(arrived.values())
        self.rollout_buffer.note_late(late, ranked)

    def state(self) -> dict[str, Any]:
        """The last of past returns, where ranks are taken."""
        return {"history": list(self.history)} if self.rank else {}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what `state` gave."""
        self.history.extend(map(float, state.get("history", ())))

    def _pay_by_rank(self) -> None:
        """Put ranks in the place of the rollout's rewards."""
        buffer = self.rollout_buffer
        assert isinstance(buffer, ChoiceBuffer) and self.env is not None
        length = episode_steps(self.env)
        check_lock_step(buffer, length)
        returns = buffer.rewards.reshape(-1, length, buffer.n_envs).sum(axis=1)
        there = buffer.episode_rewards[0].reshape(-1, length, buffer.n_envs).all(axis=1)
        past = list(self.history) or returns[there].tolist()
        ranks = np.array(_ranks(returns.flatten().tolist(), past), dtype=np.float32)
        buffer.rewards[:] = 0.0
        buffer.rewards[length - 1 :: length] = ranks.reshape(returns.shape)
        buffer.compute_returns_and_advantage(torch.zeros(buffer.n_envs, 1), np.ones(buffer.n_envs, dtype=np.bool_))
        self.history.extend(returns[there].tolist())


def _ranks(returns: Sequence[float], past: Sequence[float]) -> list[float]:
    """Share of past returns that are lower less the share that are higher; 0 if there are none."""
    return [float(np.sign(value - np.array(past)).mean()) if past else 0.0 for value in returns]
