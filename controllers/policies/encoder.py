"""From the rows that describe slots to one embedding a slot and one for the whole observation: what encoders share."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from rlnas.errors import ConfigError


class NodeEncoder(nn.Module, ABC):
    """A layer for each slot, and a way of reading the slots together, which is a subclass's business.

    Shapes: B batch, S slots, U slots in use, F features of a slot, C features of the episode, E ``embedding_size``, D
    ``node_size``, P ``pooled_size``. No parameter depends on S, so one encoder reads networks of any depth.

    Args:
        n_features: F.
        n_context: C.
        embedding_size: E, width of the layer before the slots are read together.
        read_size: Width of what `read` says of a slot.

    Attributes:
        node_size: Width of a slot's embedding: what is read of it beside the slot's own layer.
        pooled_size: Width of the observation's embedding: mean over the slots, and the episode's features.

    Raises:
        ConfigError: If a size is not positive.
    """

    def __init__(self, *, n_features: int, n_context: int, embedding_size: int, read_size: int) -> None:
        super().__init__()
        check_sizes(embedding_size=embedding_size)
        self.embed_node = nn.Linear(n_features, embedding_size)
        self.embed_context = nn.Linear(n_context, embedding_size, bias=False)
        self.node_size = embedding_size + read_size
        self.pooled_size = self.node_size + n_context

    def forward(
        self, nodes: Float[Tensor, "B S F"], node_mask: Float[Tensor, "B S"], context: Float[Tensor, "B C"]
    ) -> tuple[Float[Tensor, "B U D"], Float[Tensor, "B P"]]:
        """Embed the slots in use, those up to the last that any observation fills, and the observation.

        Slots without a node give zeros and change nothing.

        Args:
            node_mask: 1 where the slot holds a node; nodes come first.
        """
        present = node_mask.bool()
        used = max(1, int(present.sum(dim=1).max()))
        present = present[:, :used]
        embedded = torch.tanh(self.embed_node(nodes[:, :used]) + self.embed_context(context).unsqueeze(1))
        read = self.read(embedded, present, nodes)
        embeddings = torch.cat([embedded, read], dim=-1) * present.unsqueeze(-1)
        mean = embeddings.sum(dim=1) / present.sum(dim=1, keepdim=True).clamp(min=1)
        return embeddings, torch.cat([mean, context], dim=-1)

    @abstractmethod
    def read(
        self, embedded: Float[Tensor, "B U E"], present: Bool[Tensor, "B U"], nodes: Float[Tensor, "B S F"]
    ) -> Float[Tensor, "B U R"]:
        """What the slots say of each other; at slots without a node anything finite."""


def check_sizes(**sizes: int) -> None:
    """Check sizes of layers.

    Raises:
        ConfigError: Naming the first that is not positive.
    """
    for name, size in sizes.items():
        if size < 1:
            raise ConfigError(f"{name}={size} of the policy must be at least 1")
