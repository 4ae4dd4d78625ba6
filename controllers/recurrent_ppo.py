"""Proximal policy optimization with masks and a memory of the episode."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from rlnas.controllers.base import check_lock_step, episode_steps
from rlnas.controllers.buffer import ChoiceBuffer, EpisodeBuffer
from rlnas.controllers.policies import MemoryPolicy, SlotPolicy
from rlnas.controllers.ppo import PPO
from rlnas.errors import ConfigError


class RecurrentPPO(PPO):
    """`PPO` with a policy that remembers: for what an observation does not show, such as what an earlier one showed.

    The memory goes on from step to step of an episode and begins anew with each. A minibatch holds whole episodes,
    through which the gradient flows from the last step to the first; they are of one length, so nothing is padded.
    Steps with a single legal action are remembered, but nothing is learnt from them. The masks are stored with the
    observations and applied again whenever an action's probability is computed.

    The arguments are those of `PPO` without ``memory`` and ``without_replacement``; ``batch_size`` is a multiple of the
    episode's length, and ``policy_kwargs`` also takes ``memory_size``. What it remembers is soon lost when steps are
    large, above all where episodes are paid alike and advantages are little but the critic's errors: so they are
    divided by more, and updates end sooner.

    References:
        Schulman et al., Proximal Policy Optimization Algorithms, 2017, arXiv:1707.06347.
        Hausknecht & Stone, Deep Recurrent Q-Learning for Partially Observable MDPs, 2015, arXiv:1507.06527 (updates
        from whole episodes).
    """

    name: ClassVar[str] = "recurrent_ppo"
    slot_policy: ClassVar[type[SlotPolicy]] = MemoryPolicy
    buffer: ClassVar[type[ChoiceBuffer]] = EpisodeBuffer

    def __init__(
        self, env: VecEnv, *, seed: int, min_deviation: float = 0.1, target_kl: float | None = 0.03, **arguments: Any
    ) -> None:
        super().__init__(env, seed=seed, min_deviation=min_deviation, target_kl=target_kl, **arguments)

    def _setup_model(self) -> None:
        assert self.env is not None
        self.max_steps = episode_steps(self.env)
        if self.batch_size % self.max_steps:
            raise ConfigError(
                f"batch_size={self.batch_size} must be a multiple of the episode's length, {self.max_steps}"
            )
        self.rollout_buffer_kwargs = {**self.rollout_buffer_kwargs, "max_steps": self.max_steps}
        super()._setup_model()

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int
    ) -> bool:
        """Play whole episodes, from an empty memory."""
        self._memory.forget()
        whole = super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps)
        if whole:
            check_lock_step(rollout_buffer, self.max_steps)
        return whole

    @property
    def _memory(self) -> MemoryPolicy:
        assert isinstance(self.policy, MemoryPolicy)
        return self.policy

    def _update_info_buffer(self, infos: list[dict[str, Any]], dones: NDArray[np.bool_] | None = None) -> None:
        """Also forget the episodes that ended; Stable-Baselines3 calls this after every step."""
        super()._update_info_buffer(infos, dones)
        assert dones is not None
        self._memory.forget(dones)
