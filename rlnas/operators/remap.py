"""Rewrite all tensors when cells change: rows are copied, dropped or made, columns shared out or dropped."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from rlnas.graph import Param
from rlnas.graph.cells import Axis
from rlnas.graph.ops import n_blocks
from rlnas.network import Network, fresh_tensor, tensor_name

Maps = Mapping[int, Tensor]
"""For each changed cell, the old index of each of its new channels; -1 for a channel that is new."""

NEW = -1


def axis_index(row: Axis, lengths: Mapping[int, int], maps: Maps) -> Tensor:
    """Old position of each new place along a row of cells; -1 where a channel is new."""
    parts, start = [], 0
    for cell, block in row:
        channels = maps.get(cell, torch.arange(lengths[cell]))[:, None]
        places = torch.where(channels < 0, NEW, channels * block + torch.arange(block) + start)
        parts.append(places.flatten())
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
    New channels are made at random and read with weights of zero.

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
        rows = channels.rows[id]
        changed = {name for name, row in rows.items() if any([cell in maps for cell, _ in row])}
        for name, param in old.params(id).items():
            tensor = network.tensors[tensor_name(id, name)]
            if "out" in param.axes and "out" in changed:
                tensor = _choose(tensor, param, axis_index(rows["out"], channels.lengths, maps), generator)
            if "in" in param.axes and "in" in changed:
                axis, n = param.axes.index("in"), n_blocks(old.node(id), old.input_shapes(id))
                blocks = zip(tensor.chunk(n, dim=0), split_row(rows["in"], channels.lengths, n), strict=True)
                tensor = torch.cat(
                    [_share(b, axis, axis_index(part, channels.lengths, maps), noise, generator) for b, part in blocks]
                )
            values[tensor_name(id, name)] = tensor
    return values


def carry(network: Network, maps: Maps) -> Callable[[Mapping[str, Tensor], int], dict[str, Tensor]]:
    """How moments of gradients follow when cells are resized.

    A layer that reads replicas has for each the gradient it had for the original; a layer that makes them has its share
    of that gradient, since each replica is read with its share of the weight. What is new has had none.
    """
    old, channels = network.graph, network.graph.channels

    def moments(given: Mapping[str, Tensor], power: int) -> dict[str, Tensor]:
        made: dict[str, Tensor] = {}
        for id in old.order:
            rows = channels.rows[id]
            for name, param in old.params(id).items():
                values = given.get(tensor_name(id, name))
                if values is None:
                    continue
                if "out" in param.axes and "out" in rows:
                    index = axis_index(rows["out"], channels.lengths, maps)
                    values = _spread(values, param.axes.index("out"), index, power)
                if "in" in param.axes and "in" in rows:
                    n = n_blocks(old.node(id), old.input_shapes(id))
                    blocks = zip(values.chunk(n), split_row(rows["in"], channels.lengths, n), strict=True)
                    axis = param.axes.index("in")
                    parts = [_spread(b, axis, axis_index(row, channels.lengths, maps), 0) for b, row in blocks]
                    values = torch.cat(parts)
                made[tensor_name(id, name)] = values
        return made

    return moments


def _spread(values: Tensor, axis: int, index: Tensor, power: int) -> Tensor:
    """Choose entries along an axis, each divided by a power of the number of its replicas; new ones are zero."""
    kept, shape = index.clamp_min(0), [-1 if i == axis else 1 for i in range(values.dim())]
    copies = torch.bincount(index[index >= 0], minlength=values.shape[axis]).clamp_min(1)[kept]
    chosen = values.index_select(axis, kept) / copies.view(shape) ** power
    return chosen.masked_fill((index < 0).view(shape), 0.0)


def _choose(tensor: Tensor, param: Param, index: Tensor, generator: torch.Generator) -> Tensor:
    """Choose rows; new ones are initialized as in a fresh layer."""
    axis = param.axes.index("out")
    chosen = tensor.index_select(axis, index.clamp_min(0))
    new = (index < 0).nonzero().flatten()
    if len(new):
        shape = (*tensor.shape[:axis], len(new), *tensor.shape[axis + 1 :])
        fresh = fresh_tensor(
            Param(shape, param.axes, param.init, param.trained, param.fan_in), generator=generator, dtype=tensor.dtype
        )
        chosen.index_copy_(axis, new, fresh)
    return chosen


def _share(weight: Tensor, axis: int, index: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    """Choose columns; each set of replicas shares its old column, and new ones are zero."""
    kept = index.clamp_min(0)
    new = index < 0
    copies = torch.bincount(index[~new], minlength=weight.shape[axis]).clamp_min(1)[kept]
    chosen = weight.index_select(axis, kept)
    shape = [-1 if i == axis else 1 for i in range(weight.dim())]
    if bool((copies > 1).any()):
        chosen = torch.where(
            (copies > 1).view(shape), _replicas(weight, axis, kept, new, copies, noise, generator), chosen
        )
    return chosen.masked_fill(new.view(shape), 0.0) if bool(new.any()) else chosen


def _replicas(
    weight: Tensor, axis: int, index: Tensor, new: Tensor, copies: Tensor, noise: float, generator: torch.Generator
) -> Tensor:
    shape = [-1 if i == axis else 1 for i in range(weight.dim())]
    share = weight.index_select(axis, index) / copies.view(shape)
    if noise == 0:
        return share
    # A layer that is zero, such as the last of a new residual block, still has to tell the replicas apart.
    scale = float(weight.square().mean().sqrt()) or (weight.numel() / weight.shape[1 - axis]) ** -0.5
    random = torch.randn(share.shape, generator=generator, dtype=torch.float64).to(weight.dtype) * (noise * scale)
    random = random.masked_fill(new.view(shape), 0.0)
    total = torch.zeros_like(weight).index_add_(axis, index, random)
    return share + random - total.index_select(axis, index) / copies.view(shape)
