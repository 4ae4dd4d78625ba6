"""More expansion channels in an inverted residual block."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from rlnas.graph import Graph, Site
from rlnas.graph.edit import resize
from rlnas.graph.ops import is_depthwise
from rlnas.network import Network
from rlnas.operators.base import Edit, Operator, Tensors
from rlnas.operators.remap import NEW, carry, remap
from rlnas.operators.style import CONVOLUTIONS, REMEMBERED
from rlnas.operators.widen import group_obstacle

MOST = 8.0


class ExpandInvertedResidual(Operator):
    """Add channels between the expansion and the projection of an inverted residual block.

    Rows of the expansion, the norms, the depthwise convolution and the gate, if there is one, are random for new
    channels; the projection and the gate read them with weights of zero. The anchor is the expansion, a dense
    convolution of kernel 1 before a depthwise one. The amount is what is added to the expansion factor: 1 adds as many
    channels as the block reads.

    Optimizer state: that of old channels is kept, new ones start from zero.

    References:
        Sandler et al., MobileNetV2, CVPR 2018, arXiv:1801.04381.
        Gesmundo, Maile, Composable Function-preserving Expansions, 2023, arXiv:2308.06103 (the zero reader).
    """

    name = "expand_inverted_residual"
    exact = True
    amounts = (1.0, 2.0)
    anchors = frozenset(CONVOLUTIONS)

    def obstacle(self, graph: Graph, site: Site) -> str | None:
        node = graph.node(site.anchor)
        if node.op not in self.anchors or set(node["kernel_size"]) != {1} or node["groups"] != 1:
            return "the anchor is the expansion, a dense convolution of kernel 1 before a depthwise one"
        if not 0.0 < site.amount <= MOST:
            return f"the amount is what is added to the expansion factor, at most {MOST:g}"
        if (reason := group_obstacle(graph, site)) is not None:
            return reason
        group = graph.channels.of(site.anchor)
        assert group is not None
        if len(group.cells) != 1 or group.cells[0] not in _depthwise_cells(graph):
            return "no depthwise convolution alone reads what it makes"
        if group.pooled:
            return "a normalization takes statistics over these channels"
        return None

    def rewrite(self, graph: Graph, site: Site) -> tuple[Graph, Mapping[str, Any]]:
        group = graph.channels.of(site.anchor)
        assert group is not None
        reads = graph.input_shapes(site.anchor)[0][0]
        new = max(1, math.floor(site.amount * reads + 0.5))
        cell = group.cells[0]
        old = graph.channels.lengths[cell]
        return resize(graph, graph.channels, {cell: old + new}), {"cell": cell, "old": old, "new": new}

    def tensors(
        self, network: Network, site: Site, edit: Edit, *, generator: torch.Generator, calibration: Tensor | None
    ) -> Tensors:
        index = torch.cat([torch.arange(edit.plan["old"]), torch.full((edit.plan["new"],), NEW)])
        maps = {edit.plan["cell"]: index}
        return Tensors(remap(network, maps, noise=0.0, generator=generator), carry=carry(network, maps))


@lru_cache(maxsize=REMEMBERED)
def _depthwise_cells(graph: Graph) -> frozenset[int]:
    """Cells of channels that depthwise convolutions pass on."""
    found: set[int] = set()
    for node in graph.nodes:
        if node.op in CONVOLUTIONS and is_depthwise(node, graph.input_shapes(node.id)):
            found.update([cell for cell, _ in graph.channels.rows[node.id].get("out", ())])
    return frozenset(found)
