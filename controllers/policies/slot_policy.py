"""The policy of all learning controllers: scores every (slot, variant) pair and STOP, and masks illegal actions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import CategoricalDistribution, Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import Tensor, nn
from torch.distributions import Categorical
from torch.nn.functional import pad

from rlnas.controllers.policies.attention import AttentionEncoder
from rlnas.controllers.policies.encoder import NodeEncoder
from rlnas.controllers.policies.graph import GraphEncoder
from rlnas.controllers.policies.recurrent import RecurrentEncoder
from rlnas.errors import ConfigError, unknown_name
from rlnas.layout import Layout

ENCODERS: Final[dict[str, type[NodeEncoder]]] = {
    "recurrent": RecurrentEncoder,
    "attention": AttentionEncoder,
    "graph": GraphEncoder,
}
"""Encoders by name; each takes ``n_features, n_context, embedding_size, hidden_size`` and what it knows of `CHOSEN`."""

CHOSEN: Final = ("layers", "cell", "bidirectional", "heads")
"""Arguments of the policy that only some encoders take."""

Chooser = Callable[[Mapping[str, Tensor], Tensor], Tensor]
"""Chooses actions, shape (B,), from observations and the probabilities of all actions, shape (B, A)."""


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
        encoder: What reads the slots together: ``recurrent``, ``attention`` or ``graph``.
        embedding_size: Width of the layer before the encoder.
        hidden_size: Width of the encoder.
        layers: Layers of the encoder; by default 1 (recurrent), 2 (attention) or 3 (graph).
        cell: ``lstm`` or ``gru`` (recurrent).
        bidirectional: Also read the slots from the last to the first (recurrent); by default True.
        heads: Heads of each layer (attention); by default 4.
        head_size: Units between the embeddings and the logits; by default ``hidden_size``, and 0 for none.
        tanh_constant: With it, logits are that constant times the tanh of what the heads give.
        temperature: What the heads give is divided by it first.
        init_range: With it, every parameter begins uniformly within so much of 0.
        stop_bias: Initial bias of STOP beside about 0 for all other actions.
        critic: False for a policy without a value; ``forward`` then gives zeros.
        adam_eps: Epsilon of Adam.

    Attributes:
        chooser: With it, ``forward`` takes its actions instead of independent draws; their probabilities stay those of
            the policy.

    Raises:
        ConfigError: If an argument is out of range, or not one of the encoder chosen.

    References:
        Huang & Ontañón, A Closer Look at Invalid Action Masking in Policy Gradient Algorithms, 2020, arXiv:2006.14171.
        Bello et al., Neural Combinatorial Optimization with Reinforcement Learning, 2016, arXiv:1611.09940 (tanh
        constant and temperature).
    """

    chooser: Chooser | None = None

    def __init__(
        self,
        observation_space: spaces.Dict,
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        *,
        use_sde: bool = False,
        encoder: str = "recurrent",
        embedding_size: int = 32,
        hidden_size: int = 32,
        layers: int | None = None,
        cell: str | None = None,
        bidirectional: bool | None = None,
        heads: int | None = None,
        head_size: int | None = None,
        tanh_constant: float | None = None,
        temperature: float = 1.0,
        init_range: float | None = None,
        stop_bias: float = 0.0,
        critic: bool = True,
        adam_eps: float = 1e-5,
    ) -> None:
        assert not use_sde, "the actions are discrete"
        sizes = {name: _length(space) for name, space in observation_space.spaces.items()}
        self.layout = Layout.from_sizes(node_mask=sizes["node_mask"], action_mask=sizes["action_mask"])
        assert self.layout.n_actions == sizes["action_mask"] == action_space.n, "the spaces do not fit the layout"
        more = {"layers": layers, "cell": cell, "bidirectional": bidirectional, "heads": heads}
        self._encoder_class = ENCODERS.get(encoder)
        if self._encoder_class is None:
            raise ConfigError(unknown_name("encoder", encoder, ENCODERS))
        self._encoder_arguments = {
            "n_features": sizes["nodes"] // self.layout.slots,
            "n_context": sizes["context"],
            "embedding_size": embedding_size,
            "hidden_size": hidden_size,
            **_taken(encoder, {name: value for name, value in more.items() if value is not None}),
        }
        self._head_size = hidden_size if head_size is None else head_size
        if self._head_size < 0:
            raise ConfigError(f"head_size={head_size} of the policy must be at least 0")
        for name, value in {
            "tanh_constant": tanh_constant,
            "temperature": temperature,
            "init_range": init_range,
        }.items():
            if value is not None and not value > 0:
                raise ConfigError(f"{name}={value} of the policy must be greater than 0")
        self._tanh_constant, self._temperature, self._init_range = tanh_constant, temperature, init_range
        self._stop_bias, self._critic = stop_bias, critic
        super().__init__(
            observation_space, action_space, lr_schedule, net_arch=[], optimizer_kwargs={"eps": adam_eps, "fused": True}
        )  # calls _build

    def _build(self, lr_schedule: Schedule) -> None:
        assert self._encoder_class is not None
        self.encoder = self._encoder_class(**self._encoder_arguments)
        summary_size = self._build_summary()
        self.variant_head = _head(self.encoder.node_size + summary_size, self._head_size, self.layout.variants)
        self.stop_head = _head(summary_size, self._head_size, 1)
        if self._critic:
            self.value_head = _head(summary_size, self._head_size, 1)
        if self._init_range is not None:
            for parameter in self.parameters():
                nn.init.uniform_(parameter, -self._init_range, self._init_range)
        nn.init.constant_(self.stop_head[-1].bias, self._stop_bias)  # type: ignore[arg-type]
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]

    def _build_summary(self) -> int:
        """Build what stands between encoder and heads; returns the width of what the heads see of the episode."""
        return self.encoder.pooled_size

    def forward(self, obs: PyTorchObs, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Choose one action for each observation: (actions (B,), values (B, 1), log-probabilities (B,))."""
        embeddings, summary = self._encode(obs)
        distribution = self._distribution(_mask(obs), embeddings, summary)
        if self.chooser is None:
            actions = distribution.get_actions(deterministic=deterministic)
        else:
            assert isinstance(obs, dict) and not deterministic
            actions = self.chooser(obs, _probabilities(distribution))
        return actions, self._value(summary), distribution.log_prob(actions)

    def evaluate_actions(self, obs: PyTorchObs, actions: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Values (B, 1), log-probabilities (B,) of the given actions, and entropies (B,) over the legal ones."""
        embeddings, summary = self._encode(obs)
        distribution = self._distribution(_mask(obs), embeddings, summary)
        return self._value(summary), distribution.log_prob(actions), distribution.entropy()

    def get_distribution(self, obs: PyTorchObs) -> Distribution:
        """The masked distribution over actions; ``predict`` uses it too."""
        return self._distribution(_mask(obs), *self._encode(obs))

    def probabilities(self, obs: PyTorchObs) -> Tensor:
        """Probabilities of all actions, shape (B, A); 0 where illegal."""
        return _probabilities(self.get_distribution(obs))

    def predict_values(self, obs: PyTorchObs) -> Tensor:
        """Values, shape (B, 1)."""
        return self._value(self._encode(obs)[1])

    def _encode(self, obs: PyTorchObs) -> tuple[Tensor, Tensor]:
        """Embeddings (B, U, D) of the slots in use, and what the heads see of the episode (B, P)."""
        assert isinstance(obs, dict)
        nodes = obs["nodes"].float().reshape(len(obs["nodes"]), self.layout.slots, -1)
        encoded: tuple[Tensor, Tensor] = self.encoder(nodes, obs["node_mask"].float(), obs["context"].float())
        return encoded

    def _value(self, summary: Tensor) -> Tensor:
        if not self._critic:
            return torch.zeros(len(summary), 1)
        value: Tensor = self.value_head(summary)
        return value

    def _distribution(self, legal: Tensor, embeddings: Tensor, summary: Tensor) -> Distribution:
        """The distribution over the actions (B, A) that are legal; slots without a legal action are not scored."""
        assert legal.any(dim=-1).all(), "an observation without a legal action"
        pairs = legal[:, 1:].reshape(-1, self.layout.slots, self.layout.variants)
        rows, slots = pairs.any(dim=-1).nonzero(as_tuple=True)
        embeddings = pad(embeddings, (0, 0, 0, self.layout.slots - embeddings.shape[1]))
        scores = self.variant_head(torch.cat([embeddings[rows, slots], summary[rows]], dim=-1))
        everywhere = scores.new_zeros(pairs.shape).index_put((rows, slots), scores).flatten(start_dim=1)
        logits = torch.cat([self.stop_head(summary), everywhere], dim=-1) / self._temperature
        if self._tanh_constant is not None:
            logits = self._tanh_constant * torch.tanh(logits)
        logits = logits.masked_fill(~legal, torch.finfo(logits.dtype).min)
        assert isinstance(self.action_dist, CategoricalDistribution)
        return self.action_dist.proba_distribution(action_logits=logits)


def _mask(obs: PyTorchObs) -> Tensor:
    assert isinstance(obs, dict)
    return obs["action_mask"].bool()


def _probabilities(distribution: Distribution) -> Tensor:
    assert isinstance(distribution.distribution, Categorical)
    probabilities: Tensor = distribution.distribution.probs
    return probabilities


def _taken(encoder: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments that an encoder takes beside its sizes.

    Raises:
        ConfigError: If one is not among them.
    """
    known = set(inspect.signature(ENCODERS[encoder].__init__).parameters) & set(CHOSEN)
    for name in arguments:
        if name not in known:
            raise ConfigError(f"the encoder {encoder!r} does not take {name!r}, only: {', '.join(sorted(known))}")
    return arguments


def _length(space: spaces.Space[Any]) -> int:
    assert space.shape is not None and len(space.shape) == 1, "observation entries are one-dimensional"
    return space.shape[0]


def _head(n_inputs: int, hidden: int, n_outputs: int) -> nn.Sequential:
    """Two layers, or one; the last one small, so that the policy begins nearly uniform and the value near 0."""
    last = nn.Linear(hidden or n_inputs, n_outputs)
    nn.init.orthogonal_(last.weight, gain=0.01)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(n_inputs, hidden), nn.Tanh(), last) if hidden else nn.Sequential(last)
