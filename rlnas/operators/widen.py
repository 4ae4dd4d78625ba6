"""Widen: more channels, the same function."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rlnas.graph import Graph, Site
from rlnas.graph.channels import ChannelGroup
from rlnas.graph.edit import resize
from rlnas.network import Network
from rlnas.operators.base import Edit, Operator, Reach, Tensors, whole
from rlnas.operators.remap import carry, remap

MAX_CHANNELS = 65536


def group_obstacle(graph: Graph, site: Site) -> str | None:
    """Why no group of channels can be resized at the site's anchor."""
    group = graph.channels.of(site.anchor)
    if group is None:
        return f"{site.anchor} is not the first layer of a group of channels"
    if group.fixed:
        return "the network's inputs and outputs keep their sizes"
    return None


def parts_agree(group: ChannelGroup, lengths: Mapping[int, int]) -> bool:
    """True if the blocks of every grouped convolution stay equally long."""
    return all(len({sum(lengths[c] for c in part) for part in partition}) == 1 for partition in group.parts)


class Widen(Operator):
    """Replicate channels of a layer, and of all layers coupled with it, so that their number grows by a factor.

    What reads a replicated channel has its weights divided among the replicas, plus noise that cancels out over them.
    The amount is the factor. Dropout after the layer makes training mode differ, since its masks do.

    Attributes:
        noise: Standard deviation of the noise, relative to the root mean square of the weight. At 1 what is random is
            as large as what was learned, so that replicas part at once; with less they go on learning much the same.

    References:
        Chen, Goodfellow, Shlens, Net2Net, ICLR 2016, arXiv:1511.05641.
        Wang et al., LEMON: Lossless Model Expansion, ICLR 2024, arXiv:2310.07999 (noise at the scale of the weights).
    """

    name = "widen"
    exact = True
    amounts = (1.5, 2.0)

    def __init__(self, *, noise: float = 1.0) -> None:
        self.noise = noise

    def reach(self, op: str) -> Reach | None:
        return "component"

    def obstacle(self, graph: Graph, site: Site) -> str | None:
        if (reason := group_obstacle(graph, site)) is not None:
            return reason
        if not 1.0 < site.amount <= 16.0:
            return "the amount is the factor of growth, above 1 and at most 16"
        group = graph.channels.of(site.anchor)
        assert group is not None
        lengths = self._lengths(graph, group, site.amount)
        if sum(lengths.values()) > MAX_CHANNELS:
            return f"more than {MAX_CHANNELS} channels"
        if group.pooled and not whole(site.amount):
            return "a normalization over these channels takes only a whole factor, so that its statistics stay"
        if not parts_agree(group, lengths):
            return "the blocks of a grouped convolution would not grow alike"
        return None

    def _lengths(self, graph: Graph, group: ChannelGroup, factor: float) -> dict[int, int]:
        old = graph.channels.lengths
        return {cell: max(old[cell] + 1, math.floor(old[cell] * factor + 0.5)) for cell in group.cells}

    def rewrite(self, graph: Graph, site: Site) -> tuple[Graph, Mapping[str, Any]]:
        group = graph.channels.of(site.anchor)
        assert group is not None
        lengths = self._lengths(graph, group, site.amount)
        return resize(graph, graph.channels, lengths), {"lengths": lengths}

    def tensors(
        self, network: Network, site: Site, edit: Edit, *, generator: torch.Generator, calibration: Tensor | None
    ) -> Tensors:
        maps = {}
        for cell, length in edit.plan["lengths"].items():
            old = network.graph.channels.lengths[cell]
            extra: list[Tensor] = []
            while sum(len(e) for e in extra) < length - old:  # every channel once before any of them twice
                extra.append(torch.randperm(old, generator=generator))
            maps[cell] = torch.cat([torch.arange(old), *extra])[:length]
        return Tensors(remap(network, maps, noise=self.noise, generator=generator), carry=carry(network, maps))
