"""Rewrite all tensors when cells of channels change: rows are copied or dropped, columns shared out or dropped."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from rlnas.graph.channels import Axis
from rlnas.graph.ops import n_blocks
from rlnas.network import Network

Maps = Mapping[int, Tensor]
"""For each changed cell, the old index of each of its new channels."""


def axis_index(row: Axis, lengths: Mapping[int, int], maps: Maps) -> Tensor:
    """Old position of each new entry along a row of cells."""
    parts, start = [], 0
    for cell, block in row:
        channels = maps.get(cell, torch.arange(lengths[cell]))
        parts.append((channels[:, None] * block + torch.arange(block)).flatten() + start)
        start += lengths[cell] * block
    return torch.cat(parts)


def split_row(row: Axis, lengths: Mapping[int, int], n: int) -> list[Axis]:
    """Cut a row into n parts of equal length; borders of parts are borders of cells."""
    size = sum(lengths[cell] * block for cell, block in row) // n
    parts: list[list[tuple[int, int]]] = [[] for _ in range(n)]
    start = 0
    for cell, block in row:
        parts[start // size].append((cell, block))
        start += lengths[cell] * block
    return [tuple(part) for part in parts]


def remap(network: Network, maps: Maps, *, noise: float, generator: torch.Generator) -> dict[str, Tensor]:
    """The network's tensors after its cells were resized.

    Old channels that appear several times are replicas: what reads them gets their old weight divided among them, plus
    random values that cancel out over each set of replicas, so that the function is kept while they part in training.

    Args:
        maps: What the new channels are.
        noise: Standard deviation of the random values, relative to the root mean square of the weight.
        generator: Only source of randomness.

    References:
        Chen, Goodfellow, Shlens, Net2Net, ICLR 2016, arXiv:1511.05641.
        Wang et al., LEMON: Lossless Model Expansion, ICLR 2024, arXiv:2310.07999.
    """
    old, channels = network.graph, network.graph.channels
    values: dict[str, Tensor] = {}
    for id in old.order:
        node = old.node(id)
        row = channels.axes[id]
        for name, param in old.params(id).items():
            tensor = network.tensors[f"{id}.{name}"]
            if "out" in param.axes and any(cell in maps for cell, _ in row):
                tensor = tensor.index_select(param.axes.index("out"), axis_index(row, channels.lengths, maps))
            source = channels.axes[node.inputs[0]] if node.inputs else ()
            if "in" in param.axes and any(cell in maps for cell, _ in source):
                n = n_blocks(node, old.input_shapes(id))
                blocks = zip(tensor.chunk(n, dim=0), split_row(source, channels.lengths, n), strict=True)
                tensor = torch.cat(
                    [_share(b, axis_index(part, channels.lengths, maps), noise, generator) for b, part in blocks]
                )
            values[f"{id}.{name}"] = tensor
    return values


def _share(weight: Tensor, index: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    """Choose columns (axis 1); each set of replicas shares its old column."""
    copies = torch.bincount(index, minlength=weight.shape[1]).clamp_min(1)[index]
    if bool((copies == 1).all()):
        return weight.index_select(1, index)
    shape = (1, -1) + (1,) * (weight.dim() - 2)
    share = weight.index_select(1, index) / copies.view(shape)
    if noise > 0:
        # A layer that is zero, such as the last of a new residual block, still has to tell the replicas apart.
        scale = float(weight.square().mean().sqrt()) or math.prod(weight.shape[1:]) ** -0.5
        random = torch.randn(share.shape, generator=generator, dtype=torch.float64).to(weight.dtype) * (noise * scale)
        total = torch.zeros_like(weight).index_add_(1, index, random)
        share = share + random - total.index_select(1, index) / copies.view(shape)
        share = torch.where((copies > 1).view(shape), share, weight.index_select(1, index))
    return share
