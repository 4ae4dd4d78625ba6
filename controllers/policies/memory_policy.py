"""The slot policy with a memory of the episode so far."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import Tensor, nn

from rlnas.controllers.policies.encoder import check_sizes
from rlnas.controllers.policies.slot_policy import SlotPolicy, _mask

CHOICE: Final = "choice"
"""Entry beside the observations of whole episodes: True at the steps whose actions are asked for, (episodes, steps)."""

Memory = tuple[Tensor, Tensor]
"""Output and cell of the LSTM, each of shape (B, M)."""


class MemoryPolicy(SlotPolicy):
    """`SlotPolicy` whose heads also see what an LSTM remembers of the observations since the episode began.

    ``forward`` remembers from call to call, for it plays episodes: `forget` goes before their first step. All else
    keeps nothing: ``evaluate_actions`` reads whole episodes, ``predict`` takes and returns the memory, and
    ``get_distribution`` and ``predict_values`` take an observation for what follows the present memory.

    Args:
        observation_space: As for `SlotPolicy`, like all that follows.
        memory_size: Units of the LSTM over the steps.
    """

    def __init__(
        self,
        observation_space: spaces.Dict,
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        *,
        memory_size: int = 32,
        **policy_arguments: Any,
    ) -> None:
        check_sizes(memory_size=memory_size)
        self._memory_size = memory_size
        self._playing: Memory | None = None
        super().__init__(observation_space, action_space, lr_schedule, **policy_arguments)

    def _build_summary(self) -> int:
        self.memory = nn.LSTM(self.encoder.pooled_size, self._memory_size, batch_first=True)
        return self.encoder.pooled_size + self._memory_size

    def forget(self, ended: NDArray[np.bool_] | None = None) -> None:
        """Begin new episodes, all of them or those that ended."""
        if ended is None:
            self._playing = None
        elif self._playing is not None:
            self._playing = _without(self._playing, torch.as_tensor(ended))

    def forward(self, obs: PyTorchObs, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Choose one action for each episode that is played, and remember the step."""
        embeddings, summary, self._playing = self._step(obs, self._playing)
        distribution = self._distribution(_mask(obs), embeddings, summary)
        actions = distribution.get_actions(deterministic=deterministic)
        return actions, self._value(summary), distribution.log_prob(actions)

    def evaluate_actions(self, obs: PyTorchObs, actions: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Values (N, 1), log-probabilities (N,) and entropies (N,) of N steps of whole episodes.

        Args:
            obs: Observations of whole episodes, one after another, and `CHOICE`, which says which N steps are meant.
            actions: Actions taken at those steps, shape (N,).
        """
        assert isinstance(obs, dict)
        asked = obs[CHOICE].bool()
        embeddings, pooled = self._encode(obs)
        remembered = self.memory(pooled.view(*asked.shape, -1))[0].flatten(end_dim=1)
        rows = asked.flatten()
        summary = torch.cat([pooled, remembered], dim=-1)[rows]
        distribution = self._distribution(_mask(obs)[rows], embeddings[rows], summary)
        return self._value(summary), distribution.log_prob(actions), distribution.entropy()

    def get_distribution(self, obs: PyTorchObs) -> Distribution:
        """The masked distribution over actions at the next step of the episodes that are played."""
        embeddings, summary, _ = self._step(obs, self._playing)
        return self._distribution(_mask(obs), embeddings, summary)

    def predict_values(self, obs: PyTorchObs) -> Tensor:
        """Values at the next step of the episodes that are played, shape (B, 1)."""
        return self._value(self._step(obs, self._playing)[1])

    def predict(
        self,
        observation: NDArray[Any] | dict[str, NDArray[Any]],
        state: tuple[NDArray[Any], ...] | None = None,
        episode_start: NDArray[Any] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], tuple[NDArray[Any], ...] | None]:
        """Actions for one observation or a batch of them, and the memory to pass on with the next.

        Args:
            state: Memory that the call before returned; None at the first step.
            episode_start: True where an episode begins.
            deterministic: Take the most likely action.
        """
        self.set_training_mode(False)
        tensors, batched = self.obs_to_tensor(observation)
        memory = None if state is None else (torch.as_tensor(state[0]), torch.as_tensor(state[1]))
        if memory is not None and episode_start is not None:
            memory = _without(memory, torch.as_tensor(np.atleast_1d(episode_start)))
        with torch.no_grad():
            embeddings, summary, memory = self._step(tensors, memory)
            distribution = self._distribution(_mask(tensors), embeddings, summary)
            actions: NDArray[Any] = distribution.get_actions(deterministic=deterministic).numpy()
        return actions if batched else actions[0], tuple(part.numpy() for part in memory)

    def _step(self, obs: PyTorchObs, memory: Memory | None) -> tuple[Tensor, Tensor, Memory]:
        """Embeddings, what the heads see, and the memory after one more step."""
        embeddings, pooled = self._encode(obs)
        before = None if memory is None else (memory[0].unsqueeze(0), memory[1].unsqueeze(0))
        remembered, (output, cell) = self.memory(pooled.unsqueeze(1), before)
        return embeddings, torch.cat([pooled, remembered[:, 0]], dim=-1), (output[0], cell[0])


def _without(memory: Memory, ended: Tensor) -> Memory:
    """The memory without the rows that ended."""
    kept = (~ended.bool()).float().unsqueeze(-1)
    return memory[0] * kept, memory[1] * kept
