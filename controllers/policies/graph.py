"""Graph encoder: slots exchange messages along the edges of the network."""

from __future__ import annotations

from typing import Final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from rlnas.controllers.policies.encoder import NodeEncoder, check_sizes
from rlnas.layout import CONTEXT_FEATURES, NODE_FEATURES

DISTANCES: Final = tuple(i for i, name in enumerate(NODE_FEATURES) if name.endswith("_distance"))
"""Columns that say how many slots (as a share of all) lie between a node and one of its inputs."""


class GraphEncoder(NodeEncoder):
    """Rounds of messages between nodes and their inputs, both ways.

    In each round a slot hears the mean of its inputs and the mean of its consumers. Edges are those that the columns
    ``input_k_distance`` tell. Observations without such columns (a list of decisions) are taken as a chain, in which a
    slot's input is the slot before it.

    Args:
        hidden_size: Width of the messages.
        layers: Rounds, each with weights of its own: how far an edge's ends are heard.

    Raises:
        ConfigError: If a size is not positive.

    References:
        Gilmer et al., Neural Message Passing for Quantum Chemistry, ICML 2017, arXiv:1704.01212.
    """

    def __init__(
        self, *, n_features: int, n_context: int, embedding_size: int, hidden_size: int, layers: int = 3
    ) -> None:
        check_sizes(hidden_size=hidden_size, layers=layers)
        super().__init__(
            n_features=n_features, n_context=n_context, embedding_size=embedding_size, read_size=hidden_size
        )
        self.has_edges = (n_features, n_context) == (len(NODE_FEATURES), len(CONTEXT_FEATURES))
        self.widen = nn.Linear(embedding_size, hidden_size)
        self.rounds = nn.ModuleList(MessageRound(hidden_size) for _ in range(layers))

    def read(
        self, embedded: Float[Tensor, "B U E"], present: Bool[Tensor, "B U"], nodes: Float[Tensor, "B S F"]
    ) -> Float[Tensor, "B U R"]:
        """States of the slots after the last round."""
        edges = self._edges(nodes, present.shape[1]) * (present.unsqueeze(1) & present.unsqueeze(2))
        inputs, consumers = _rows_to_means(edges), _rows_to_means(edges.transpose(1, 2))
        state: Tensor = self.widen(embedded)
        for exchange in self.rounds:
            state = exchange(state, inputs, consumers)
        return state

    def _edges(self, nodes: Float[Tensor, "B S F"], used: int) -> Float[Tensor, "B U U"]:
        """1 at (b, i, j) where slot j is an input of slot i."""
        if not self.has_edges:
            return torch.diag(nodes.new_ones(used - 1), -1).expand(len(nodes), -1, -1)
        slots = nodes.shape[1]
        back = (nodes[:, :used, list(DISTANCES)] * slots).round().long()  # B U K
        source = torch.arange(used).view(1, -1, 1) - back
        real = (back > 0) & (source >= 0)
        edges = torch.zeros(len(nodes), used, used, dtype=nodes.dtype)
        return edges.scatter_reduce(2, source.clamp(min=0), real.to(edges), "amax")


class MessageRound(nn.Module):
    """One exchange of messages, beside an identity.

    Args:
        size: Width of the states.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(size)
        self.update = nn.Sequential(nn.Linear(3 * size, size), nn.GELU(), nn.Linear(size, size))

    def forward(
        self,
        state: Float[Tensor, "B U R"],
        inputs: Float[Tensor, "B U U"],
        consumers: Float[Tensor, "B U U"],
    ) -> Float[Tensor, "B U R"]:
        """The states after the exchange.

        Args:
            inputs: Rows that take the mean over a slot's inputs.
            consumers: Rows that take the mean over a slot's consumers.
        """
        told = self.norm(state)
        updated: Tensor = state + self.update(torch.cat([told, inputs @ told, consumers @ told], dim=-1))
        return updated


def _rows_to_means(edges: Float[Tensor, "B U U"]) -> Float[Tensor, "B U U"]:
    """Rows divided by their sums; rows of zeros stay."""
    return edges / edges.sum(dim=2, keepdim=True).clamp(min=1.0)
