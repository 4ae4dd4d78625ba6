"""Learning where networks that break a limit are rejected: they are not evaluated, and no action is illegal for them.

What is learnt from are episodes that were not rejected, and those are draws from the policy given that it keeps the
limits. The logarithm of that probability is log P(y) - log P(V), V being all episodes that keep them; without its
second term the policy is pulled towards what is rarely rejected, whatever that is worth.

References:
    Yang et al., TabNAS: Rejection Sampling for Neural Architecture Search on Tabular Datasets, NeurIPS 2022,
    arXiv:2204.07615.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from rlnas.controllers.base import episode_steps
from rlnas.controllers.pretraining import imagined


def rejects(env: VecEnv) -> bool:
    """Whether an environment rejects episodes; one that does not say so does not."""
    try:
        return bool(env.get_attr("rejects")[0])
    except AttributeError:
        return False


def rejected(infos: Sequence[dict[str, Any]]) -> list[int]:
    """Which episodes of a batch were rejected in the step that gave these infos."""
    return [i for i, info in enumerate(infos) if info.get("rejected")]


def log_feasible(policy: ActorCriticPolicy, env: VecEnv) -> tuple[Tensor | None, float]:
    """Logarithm of the probability that the policy's episodes keep the limits, from samples that are not evaluated.

    The value is the logarithm of the mean of ``p / sg(p)`` over the samples that keep them, the others counting as 0,
    ``sg`` being a stopped gradient. So its gradient is the mean of the gradients of their log-probabilities.

    Args:
        policy: Plays and is differentiated.
        env: Imagined episodes in lock-step, one a sample.

    Returns:
        The logarithm with its gradient, or None if no sample keeps the limits; and the share that does.
    """
    observations, actions = [], []
    given = env.reset()
    infos: list[dict[str, Any]] = []
    for _ in range(episode_steps(env)):
        seen = obs_as_tensor(given, policy.device)  # type: ignore[arg-type]
        assert isinstance(seen, dict)
        with torch.no_grad():
            chosen = policy(seen)[0]
        observations.append(seen)
        actions.append(chosen)
        given, _, _, infos = env.step(chosen.cpu().numpy())
    feasible = np.flatnonzero([info["feasible"] for info in infos])
    share = len(feasible) / env.num_envs
    if not len(feasible):
        return None, share
    own = torch.from_numpy(feasible)
    kept = {name: torch.cat([seen[name][own] for seen in observations]) for name in observations[0]}
    steps = policy.evaluate_actions(kept, torch.cat([chosen[own] for chosen in actions]))[1]
    log_probs = steps.reshape(len(observations), len(own)).sum(dim=0)
    ratios = (log_probs - log_probs.detach()).exp()
    return (ratios.sum() / env.num_envs).log(), share


class Correction:
    """What a learner needs on an environment that rejects; nothing on any other.

    Args:
        env: The environment, which can be imagined.
        samples: Episodes that the correction is estimated from, at each update.

    Raises:
        ConfigError: If the environment rejects and cannot be imagined.
    """

    def __init__(self, env: VecEnv, *, samples: int) -> None:
        self._imagined = imagined(env, samples) if rejects(env) else None

    @property
    def needed(self) -> bool:
        """Whether the environment rejects."""
        return self._imagined is not None

    def loss(self, policy: ActorCriticPolicy, advantages: Tensor) -> tuple[Tensor, float]:
        """What is added to minus the mean of advantage x log-probability.

        Args:
            advantages: Of the episodes that were not rejected, shape (episodes,).

        Returns:
            The term, 0 where no sample keeps the limits; and the share of samples that do.
        """
        assert self._imagined is not None
        logarithm, share = log_feasible(policy, self._imagined)
        return torch.zeros(()) if logarithm is None else advantages.mean().detach() * logarithm, share
