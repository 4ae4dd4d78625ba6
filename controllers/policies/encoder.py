"""Recurrent encoder: from the rows that describe nodes to one embedding a node and one for the whole network."""

from __future__ import annotations

from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from rlnas.errors import ConfigError, unknown_name

CELLS: Final[dict[str, type[nn.GRU] | type[nn.LSTM]]] = {"gru": nn.GRU, "lstm": nn.LSTM}


class NodeEncoder(nn.Module):
    """An RNN over the nodes in their order.

    Shapes: B batch, S slots, F features of a node, C features of the episode, D ``node_size``, P ``pooled_size``. No
    parameter depends on S, so one encoder reads networks of any depth.

    Args:
        n_features: F.
        n_context: C.
        embedding_size: Width of the layer before the RNN.
        hidden_size: Units of the RNN in one direction.
        cell: ``gru`` or ``lstm``.
        bidirectional: Also read the nodes from the output to the input.

    Attributes:
        node_size: Width of a node's embedding: what the RNN says of it beside the node's own layer.
        pooled_size: Width of the network's embedding: mean over the nodes, and the episode's features.

    Raises:
        ConfigError: If the cell is unknown or a size is not positive.
    """

    def __init__(
        self,
        *,
        n_features: int,
        n_context: int,
        embedding_size: int,
        hidden_size: int,
        cell: str,
        bidirectional: bool,
    ) -> None:
        super().__init__()
        if cell not in CELLS:
            raise ConfigError(unknown_name("cell", cell, CELLS))
        if min(embedding_size, hidden_size) < 1:
            raise ConfigError(f"embedding_size={embedding_size} and hidden_size={hidden_size} must be positive")
        self.embed_node = nn.Linear(n_features, embedding_size)
        self.embed_context = nn.Linear(n_context, embedding_size, bias=False)
        self.rnn = CELLS[cell](embedding_size, hidden_size, batch_first=True, bidirectional=bidirectional)
        self.node_size = embedding_size + hidden_size * (2 if bidirectional else 1)
        self.pooled_size = self.node_size + n_context

    def forward(
        self, nodes: Float[Tensor, "B S F"], node_mask: Float[Tensor, "B S"], context: Float[Tensor, "B C"]
    ) -> tuple[Float[Tensor, "B S D"], Float[Tensor, "B P"]]:
        """Embed the nodes and the network; slots without a node give zeros and change nothing.

        Args:
            node_mask: 1 where the slot holds a node; nodes come first.
        """
        embedded = torch.tanh(self.embed_node(nodes) + self.embed_context(context).unsqueeze(1))
        lengths = node_mask.sum(dim=1).long().clamp(min=1).cpu()
        packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
        read, _ = pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=nodes.shape[1])
        present = node_mask.unsqueeze(-1)
        embeddings = torch.cat([embedded, read], dim=-1) * present
        mean = embeddings.sum(dim=1) / present.sum(dim=1).clamp(min=1.0)
        return embeddings, torch.cat([mean, context], dim=-1)
