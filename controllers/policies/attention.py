"""Attention encoder: a transformer over the slots."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from rlnas.controllers.policies.encoder import NodeEncoder, check_sizes
from rlnas.errors import ConfigError


class AttentionEncoder(NodeEncoder):
    """Layers of self-attention in which slots without a node are not looked at.

    A slot's place enters as sines and cosines, so that there is one for any number of slots.

    Args:
        hidden_size: Width of the layers.
        layers: Number of layers.
        heads: Heads of each layer.

    Raises:
        ConfigError: If a size is not positive, or ``hidden_size`` no even multiple of ``heads``.

    References:
        Vaswani et al., Attention Is All You Need, NeurIPS 2017, arXiv:1706.03762.
        Xiong et al., On Layer Normalization in the Transformer Architecture, ICML 2020, arXiv:2002.04745.
    """

    def __init__(
        self,
        *,
        n_features: int,
        n_context: int,
        embedding_size: int,
        hidden_size: int,
        layers: int = 2,
        heads: int = 4,
    ) -> None:
        check_sizes(hidden_size=hidden_size, layers=layers, heads=heads)
        if hidden_size % heads or hidden_size % 2:
            raise ConfigError(f"hidden_size={hidden_size} of the policy must be even and a multiple of heads={heads}")
        super().__init__(
            n_features=n_features, n_context=n_context, embedding_size=embedding_size, read_size=hidden_size
        )
        self.widen = nn.Linear(embedding_size, hidden_size)
        self.blocks = nn.ModuleList(AttentionBlock(hidden_size, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(hidden_size)

    def read(
        self, embedded: Float[Tensor, "B U E"], present: Bool[Tensor, "B U"], nodes: Float[Tensor, "B S F"]
    ) -> Float[Tensor, "B U R"]:
        """Outputs of the last layer."""
        stream = self.widen(embedded)
        stream = stream + places(stream.shape[1], stream.shape[2])
        empty = ~present.any(dim=1, keepdim=True)  # with no key at all the softmax would not be a number
        keys = (present | empty)[:, None, None, :]
        for block in self.blocks:
            stream = block(stream, keys)
        read: Tensor = self.norm(stream)
        return read


class AttentionBlock(nn.Module):
    """Self-attention and two layers, each behind a norm and beside an identity.

    Args:
        size: Width of the stream.
        heads: Number of heads.
    """

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(size), nn.LayerNorm(size)
        self.query_key_value = nn.Linear(size, 3 * size)
        self.project = nn.Linear(size, size)
        self.mix = nn.Sequential(nn.Linear(size, 2 * size), nn.GELU(), nn.Linear(2 * size, size))

    def forward(self, stream: Float[Tensor, "B U R"], keys: Bool[Tensor, "B 1 1 U"]) -> Float[Tensor, "B U R"]:
        """The stream after one layer."""
        batch, slots, size = stream.shape
        parts = self.query_key_value(self.norm_1(stream)).view(batch, slots, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        looked = scaled_dot_product_attention(parts[0], parts[1], parts[2], attn_mask=keys)
        stream = stream + self.project(looked.transpose(1, 2).reshape(batch, slots, size))
        mixed: Tensor = stream + self.mix(self.norm_2(stream))
        return mixed


def places(slots: int, size: int) -> Float[Tensor, "slots size"]:
    """Sines and cosines of the slots' numbers, of wavelengths from 2 pi to 1000 times that."""
    angles = torch.arange(slots)[:, None] * torch.exp(torch.arange(size // 2) * (-math.log(1000.0) / (size // 2)))
    return torch.cat([angles.sin(), angles.cos()], dim=1)
