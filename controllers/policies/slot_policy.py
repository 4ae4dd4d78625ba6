"""The policy of all learning controllers: scores every (slot, variant) pair and STOP, and masks illegal actions."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import CategoricalDistribution, Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import Tensor, nn

from rlnas.controllers.policies.encoder import NodeEncoder
from rlnas.layout import Layout


class SlotPolicy(ActorCriticPolicy):
    """A masked categorical policy over STOP and the (slot, variant) pairs of the observation's layout.

    Logits of illegal actions are the lowest float before the softmax, wherever a distribution is made: when acting,
    when a rollout is evaluated again (with the masks stored in it), and in ``predict``. The result is a true policy
    gradient, and the entropy is that of the legal actions. No parameter depends on the number of slots.

    Args:
        observation_space: Entries and sizes of `rlnas.layout`.
        action_space: Discrete, of the layout's size.
        lr_schedule: Learning rate by progress, as Stable-Baselines3 passes it.
        use_sde: Passed by Stable-Baselines3; must be False, for the actions are discrete.
        embedding_size: Width of the layer before the RNN.
        hidden_size: Units of the RNN in one direction, and of the heads.
        cell: ``gru`` or ``lstm``.
        bidirectional: Also read the nodes from the output to the input.
        stop_bias: Initial logit of STOP beside about 0 for all other actions.
        critic: False for a policy without a value; ``forward`` then gives zeros.
        adam_eps: Epsilon of Adam.

    References:
        Huang & Ontañón, A Closer Look at Invalid Action Masking in Policy Gradient Algorithms, 2020, arXiv:2006.14171.
    """

    def __init__(
        self,
        observation_space: spaces.Dict,
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        *,
        use_sde: bool = False,
        embedding_size: int = 32,
        hidden_size: int = 32,
        cell: str = "gru",
        bidirectional: bool = True,
        stop_bias: float = 0.0,
        critic: bool = True,
        adam_eps: float = 1e-5,
    ) -> None:
        assert not use_sde, "the actions are discrete"
        sizes = {name: _length(space) for name, space in observation_space.spaces.items()}
        self.layout = Layout.from_sizes(node_mask=sizes["node_mask"], action_mask=sizes["action_mask"])
        assert self.layout.n_actions == sizes["action_mask"] == action_space.n, "the spaces do not fit the layout"
        self._encoder_sizes = {
            "n_features": sizes["nodes"] // self.layout.slots,
            "n_context": sizes["context"],
            "embedding_size": embedding_size,
            "hidden_size": hidden_size,
        }
        self._cell, self._bidirectional, self._head_size = cell, bidirectional, hidden_size
        self._stop_bias, self._critic = stop_bias, critic
        super().__init__(
            observation_space, action_space, lr_schedule, net_arch=[], optimizer_kwargs={"eps": adam_eps}
        )  # calls _build

    def _build(self, lr_schedule: Schedule) -> None:
        encoder = NodeEncoder(**self._encoder_sizes, cell=self._cell, bidirectional=self._bidirectional)
        self.encoder = encoder
        self.variant_head = _head(encoder.node_size + encoder.pooled_size, self._head_size, self.layout.variants)
        self.stop_head = _head(encoder.pooled_size, self._head_size, 1, bias=self._stop_bias)
        if self._critic:
            self.value_head = _head(encoder.pooled_size, self._head_size, 1)
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]

    def forward(self, obs: PyTorchObs, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Choose one action for each observation: (actions (B,), values (B, 1), log-probabilities (B,))."""
        embeddings, pooled = self._encode(obs)
        distribution = self._distribution(obs, embeddings, pooled)
        actions = distribution.get_actions(deterministic=deterministic)
        return actions, self._value(pooled), distribution.log_prob(actions)

    def evaluate_actions(self, obs: PyTorchObs, actions: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Values (B, 1), log-probabilities (B,) of the given actions, and entropies (B,) over the legal ones."""
        embeddings, pooled = self._encode(obs)
        distribution = self._distribution(obs, embeddings, pooled)
        return self._value(pooled), distribution.log_prob(actions), distribution.entropy()

    def get_distribution(self, obs: PyTorchObs) -> Distribution:
        """The masked distribution over actions; ``predict`` uses it too."""
        return self._distribution(obs, *self._encode(obs))

    def predict_values(self, obs: PyTorchObs) -> Tensor:
        """Values, shape (B, 1)."""
        return self._value(self._encode(obs)[1])

    def _encode(self, obs: PyTorchObs) -> tuple[Tensor, Tensor]:
        assert isinstance(obs, dict)
        nodes = obs["nodes"].float().reshape(len(obs["nodes"]), self.layout.slots, -1)
        encoded: tuple[Tensor, Tensor] = self.encoder(nodes, obs["node_mask"].float(), obs["context"].float())
        return encoded

    def _value(self, pooled: Tensor) -> Tensor:
        if not self._critic:
            return torch.zeros(len(pooled), 1)
        value: Tensor = self.value_head(pooled)
        return value

    def _distribution(self, obs: PyTorchObs, embeddings: Tensor, pooled: Tensor) -> Distribution:
        assert isinstance(obs, dict)
        everywhere = pooled.unsqueeze(1).expand(-1, embeddings.shape[1], -1)
        pairs = self.variant_head(torch.cat([embeddings, everywhere], dim=-1))
        logits = torch.cat([self.stop_head(pooled), pairs.flatten(start_dim=1)], dim=-1)
        legal = obs["action_mask"].bool()
        assert legal.any(dim=-1).all(), "an observation without a legal action"
        logits = logits.masked_fill(~legal, torch.finfo(logits.dtype).min)
        assert isinstance(self.action_dist, CategoricalDistribution)
        return self.action_dist.proba_distribution(action_logits=logits)


def _length(space: spaces.Space[Any]) -> int:
    assert space.shape is not None and len(space.shape) == 1, "observation entries are one-dimensional"
    return space.shape[0]


def _head(n_inputs: int, hidden: int, n_outputs: int, *, bias: float = 0.0) -> nn.Sequential:
    """Two layers; the last one small, so that the policy begins nearly uniform and the value near 0."""
    last = nn.Linear(hidden, n_outputs)
    nn.init.orthogonal_(last.weight, gain=0.01)
    nn.init.constant_(last.bias, bias)
    return nn.Sequential(nn.Linear(n_inputs, hidden), nn.Tanh(), last)
