"""REINFORCE with a moving-average baseline, on the same policy as PPO."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn

from rlnas.controllers.base import check_lock_step, check_positive, episode_steps, rollout_steps
from rlnas.controllers.buffer import ChoiceBuffer
from rlnas.controllers.memory import Memory, MemorySettings
from rlnas.controllers.policies import SlotPolicy
from rlnas.controllers.rejection import Correction, rejected
from rlnas.controllers.remembering import Remembering
from rlnas.controllers.without_replacement import EpisodeTree
from rlnas.errors import ConfigError, unknown_name

Returns = NDArray[np.float64]
ADVANTAGES: Final = ("scaled", "difference", "rank")


class Reinforce(Remembering, OnPolicyAlgorithm):
    """The policy gradient of whole episodes, with the mean of past returns as baseline and no critic.

    One gradient step a rollout: the mean over episodes of advantage x log-probability, summed over those steps of the
    episode at which there was a choice. An episode's advantage is its own, and what it is compared with comes from the
    returns of earlier rollouts only; those of the present one enter after its gradient step.

    ``advantage`` says how an episode's return R becomes its advantage:

    - ``scaled``: (R - baseline) / deviation of past returns.
    - ``difference``: R - baseline.
    - ``rank``: from -1 to 1, the share of the last ``history`` returns that are lower less the share that are higher;
      it does not mind how rewards are scaled, nor a few that are far out. Without a past, in the first rollout, returns
      are compared with each other.

    Args:
        env: Episodes in lock-step; its ``max_steps`` is an episode's length.
        seed: Seed of the policy and its samples.
        learning_rate: Step size of Adam.
        n_steps: Steps of each environment in one rollout, a multiple of the episode's length; by default one episode.
        ent_coef: Weight of the entropy of the legal actions.
        max_grad_norm: Gradients are clipped to this norm.
        baseline_decay: Weight that past rollouts keep in baseline and deviation when one is added.
        initial_baseline: Baseline of the first rollout. The default is the start network's reward where rewards are
            relative to it.
        initial_deviation: Deviation of returns assumed in the first rollout.
        min_deviation: Advantages are never divided by less: the noise of a reward, or less.
        advantage: ``scaled``, ``difference`` or ``rank``.
        clip_advantage: With it, advantages lie within so much of 0.
        history: Past returns that ranks are taken among.
        rejection_samples: Imagined episodes that each update draws to correct for rejected ones, where limits are
            enforced by rejection; see `rlnas.controllers.rejection`.
        policy_kwargs: Further arguments of `SlotPolicy`.
        memory: Settings of a memory of earlier episodes; see `MemorySettings`.
        without_replacement: Play no episode a second time, until ``exploit_after`` of the memory; see
            `rlnas.controllers.without_replacement`.

    Raises:
        ConfigError: If an argument is out of range, or ``n_steps`` is no multiple of the episode's length.

    References:
        Williams, Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning, 1992.
        Zoph & Le, Neural Architecture Search with Reinforcement Learning, ICLR 2017, arXiv:1611.01578.
    """

    name: ClassVar[str] = "reinforce"
    slot_policy: ClassVar[type[SlotPolicy]] = SlotPolicy

    def __init__(
        self,
        env: VecEnv,
        *,
        seed: int,
        learning_rate: float = 1e-2,
        n_steps: int | None = None,
        ent_coef: float = 0.01,
        max_grad_norm: float = 0.5,
        baseline_decay: float = 0.8,
        initial_baseline: float = 1.0,
        initial_deviation: float = 0.3,
        min_deviation: float = 0.05,
        advantage: str = "scaled",
        clip_advantage: float | None = None,
        history: int = 100,
        rejection_samples: int = 64,
        policy_kwargs: dict[str, Any] | None = None,
        memory: dict[str, Any] | None = None,
        without_replacement: bool = False,
    ) -> None:
        self.arguments = {k: v for k, v in locals().items() if k not in ("self", "env", "__class__")}
        check_positive(
            learning_rate=learning_rate,
            initial_deviation=initial_deviation,
            min_deviation=min_deviation,
            clip_advantage=clip_advantage,
            history=history,
            rejection_samples=rejection_samples,
        )
        if advantage not in ADVANTAGES:
            raise ConfigError(unknown_name("advantage", advantage, ADVANTAGES))
        if not 0.0 <= baseline_decay < 1.0:
            raise ConfigError(f"baseline_decay={baseline_decay} must lie in [0, 1)")
        settings = MemorySettings.of(memory)
        self.memory = None if settings is None else Memory(settings)
        self.max_steps = episode_steps(env)
        self.correction = Correction(env, samples=rejection_samples)
        if without_replacement:
            if self.correction.needed:
                raise ConfigError(
                    "without_replacement does not go with limits enforced by rejection, whose correction is for "
                    "independent episodes: use space.enforce=mask"
                )
            self.tree = EpisodeTree(self.max_steps)
        self.baseline_decay = baseline_decay
        self.min_deviation = min_deviation
        self.baseline = initial_baseline
        self.variance = initial_deviation**2
        self.advantage, self.clip_advantage = advantage, clip_advantage
        self.history: deque[float] = deque(maxlen=history)
        super().__init__(
            self.slot_policy,
            env,
            learning_rate=learning_rate,
            n_steps=rollout_steps(env, n_steps),
            gamma=1.0,
            gae_lambda=1.0,
            ent_coef=ent_coef,
            vf_coef=0.0,
            max_grad_norm=max_grad_norm,
            use_sde=False,
            sde_sample_freq=-1,
            rollout_buffer_class=ChoiceBuffer,
            policy_kwargs={**(policy_kwargs or {}), "critic": False},
            seed=seed,
            device="cpu",
        )

    def note_late(self, late: Sequence[int | None], arrived: Mapping[int, float]) -> None:
        """Let the rollout buffer hold back what is late, and take what arrived."""
        assert isinstance(self.rollout_buffer, ChoiceBuffer)
        self.rollout_buffer.note_late(late, arrived)

    def _update_info_buffer(self, infos: list[dict[str, Any]], dones: NDArray[np.bool_] | None = None) -> None:
        """Also let the rollout buffer leave out what was rejected."""
        super()._update_info_buffer(infos, dones)
        assert isinstance(self.rollout_buffer, ChoiceBuffer)
        self.rollout_buffer.drop(rejected(infos))

    def train(self) -> None:
        """One gradient step on the rollout, which enters the baseline only afterwards, and steps on what is remembered.

        There is none where all episodes were rejected, and none on the rollout when the learner settles.
        """
        episode_returns = self._episode_returns()
        if not episode_returns.size:
            return
        self.remember()
        if not self.exploiting:
            self._learn_from_rollout(episode_returns)
        self._remember(episode_returns)
        self.learn_from_memory()

    def _learn_from_rollout(self, episode_returns: Returns) -> None:
        """The gradient step on the rollout."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        (batch,) = self.rollout_buffer.get()
        _, log_prob, entropy = self.policy.evaluate_actions(batch.observations, batch.actions.long().flatten())
        assert entropy is not None
        loss = self._loss(log_prob, entropy, batch.returns, n_episodes=episode_returns.size)
        if self.correction.needed:
            advantages = self._advantages(torch.from_numpy(episode_returns).to(log_prob.dtype))
            term, feasible = self.correction.loss(self.policy, advantages)
            loss = loss + term
            self.logger.record("train/feasible", feasible)
        self.policy.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
        self.policy.optimizer.step()
        self._n_updates += 1
        self.logger.record("train/loss", loss.item())
        self.logger.record("train/entropy_loss", -entropy.mean().item())
        self.logger.record("train/baseline", self.baseline)
        self.logger.record("train/deviation", self.deviation)
        self.logger.record("train/n_updates", self._n_updates)

    def expected_rewards(self, values: Tensor) -> Tensor:
        """The baseline, there being no critic."""
        return torch.full_like(values, self.baseline)

    @property
    def deviation(self) -> float:
        """What advantages are divided by."""
        return max(math.sqrt(self.variance), self.min_deviation)

    def state(self) -> dict[str, Any]:
        """Baseline, variance and the last of past returns."""
        return {"baseline": self.baseline, "variance": self.variance, "history": list(self.history)}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what `state` gave."""
        self.baseline, self.variance = float(state["baseline"]), float(state["variance"])
        self.history.extend(map(float, state["history"]))

    def _loss(self, log_prob: Tensor, entropy: Tensor, returns: Tensor, *, n_episodes: int) -> Tensor:
        """Scalar loss of the steps (T,) with a choice."""
        advantages = self._advantages(returns)
        loss: Tensor = -(advantages * log_prob).sum() / n_episodes - self.ent_coef * entropy.mean()
        return loss

    def _advantages(self, returns: Tensor) -> Tensor:
        """Advantages (T,) of the steps from the returns of their episodes."""
        if self.advantage == "rank":
            past = torch.tensor(list(self.history), dtype=returns.dtype) if self.history else returns
            advantages = (returns[:, None] - past).sign().mean(dim=1)
        else:
            advantages = returns - self.baseline
            if self.advantage == "scaled":
                advantages = advantages / self.deviation
        return advantages if self.clip_advantage is None else advantages.clip(-self.clip_advantage, self.clip_advantage)

    def _episode_returns(self) -> Returns:
        """Returns of the rollout's episodes, before the buffer is flattened."""
        buffer = self.rollout_buffer
        assert isinstance(buffer, ChoiceBuffer)
        check_lock_step(buffer, self.max_steps)
        returns: Returns = buffer.rewards.reshape(-1, self.max_steps, buffer.n_envs).sum(axis=1, dtype=np.float64)
        there, entering = buffer.episode_rewards
        known = there.reshape(-1, self.max_steps, buffer.n_envs).all(axis=1)
        return np.concatenate([returns[known], np.array(entering, dtype=np.float64)])

    def _remember(self, returns: Returns) -> None:
        """Let a rollout's returns into baseline and variance."""
        keep = self.baseline_decay
        spread = float(np.mean((returns - self.baseline) ** 2))
        self.baseline = keep * self.baseline + (1 - keep) * float(returns.mean())
        self.variance = keep * self.variance + (1 - keep) * spread
        self.history.extend(returns.tolist())
