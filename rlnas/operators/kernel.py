"""Grow the kernel of a convolution."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from rlnas.graph import Graph, Node, Site
from rlnas.graph.edit import replace_node
from rlnas.network import Network
from rlnas.operators.base import Edit, Operator, Reach, Tensors, whole
from rlnas.operators.style import CONVOLUTIONS


class GrowKernel(Operator):
    """Surround a convolution's kernel with zeros, and its input with as much more padding.

    Exact for every stride, dilation, number of groups and way of padding, and for transposed convolutions. The amount
    is the growth in every direction, an even number.

    Optimizer state: that of the old weights is kept, the new border starts from zero.

    References:
        Wei et al., Network Morphism, ICML 2016, arXiv:1603.01670.
    """

    name = "grow_kernel"
    exact = True
    amounts = (2,)
    anchors = frozenset({*CONVOLUTIONS, "conv_transpose2d"})

    def reach(self, op: str) -> Reach | None:
        return "value"

    def obstacle(self, graph: Graph, site: Site) -> str | None:
        node = graph.node(site.anchor)
        if node.op not in self.anchors:
            return f"{site.anchor} is a {node.op}, not a convolution"
        if not whole(site.amount) or site.amount < 2 or site.amount % 2:
            return "the amount is the growth of the kernel, an even whole number"
        places = graph.input_shapes(site.anchor)[0][1:]
        for size, kernel, dilation in zip(places, node["kernel_size"], node["dilation"], strict=True):
            if (kernel + int(site.amount)) // 2 * dilation >= size:
                return f"the larger kernel would reach past a map of {' x '.join(map(str, places))}"
        mode = node["padding_mode"] if node.op in CONVOLUTIONS else "zeros"
        most = {"reflect": -1, "circular": 0}.get(mode)
        padding = _padding(node, int(site.amount) // 2)
        if most is not None and any(p > size + most for p, size in zip(padding, places, strict=True)):
            return f"{mode} padding takes no more than a map of {' x '.join(map(str, places))} holds"
        return None

    def rewrite(self, graph: Graph, site: Site) -> tuple[Graph, Mapping[str, Any]]:
        node, m = graph.node(site.anchor), int(site.amount) // 2
        grown = node.replace(kernel_size=tuple(k + 2 * m for k in node["kernel_size"]), padding=_padding(node, m))
        return replace_node(graph, grown), {"margins": (m, m) * len(node["kernel_size"])}

    def tensors(
        self, network: Network, site: Site, edit: Edit, *, generator: torch.Generator, calibration: Tensor | None
    ) -> Tensors:
        name, margins = f"{site.anchor}.weight", edit.plan["margins"]

        def pad(values: Mapping[str, Tensor], power: int = 1) -> dict[str, Tensor]:
            return dict(values) | ({name: F.pad(values[name], margins)} if name in values else {})

        return Tensors(pad(network.tensors), carry=pad)


def _padding(node: Node, margin: int) -> tuple[int, ...]:
    return tuple(p + margin * d for p, d in zip(node["padding"], node["dilation"], strict=True))
