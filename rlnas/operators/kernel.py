"""Grow the kernel of a convolution."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from rlnas.graph import Graph, Site
from rlnas.graph.edit import replace_node
from rlnas.network import Network
from rlnas.operators.base import Edit, Operator, Tensors, whole


class GrowKernel(Operator):
    """Surround a convolution's kernel with zeros, and its input with as much more padding.

    Exact for every stride, dilation and number of groups. The amount is the growth in both directions, an even number.

    References:
        Wei et al., Network Morphism, ICML 2016, arXiv:1603.01670.
    """

    name = "grow_kernel"
    exact = True
    amounts = (2,)

    def obstacle(self, graph: Graph, site: Site) -> str | None:
        node = graph.node(site.anchor)
        if node.op != "conv2d":
            return f"{site.anchor} is a {node.op}, not a convolution"
        if not whole(site.amount) or site.amount < 2 or site.amount % 2:
            return "the amount is the growth of the kernel, an even whole number"
        _, height, width = graph.input_shapes(site.anchor)[0]
        for size, kernel, dilation in zip((height, width), node["kernel_size"], node["dilation"], strict=True):
            if (kernel + int(site.amount)) // 2 * dilation >= size:
                return f"the larger kernel would reach past a map of {height} x {width}"
        return None

    def rewrite(self, graph: Graph, site: Site) -> tuple[Graph, Mapping[str, Any]]:
        node, m = graph.node(site.anchor), int(site.amount) // 2
        grown = node.replace(
            kernel_size=tuple(k + 2 * m for k in node["kernel_size"]),
            padding=tuple(p + m * d for p, d in zip(node["padding"], node["dilation"], strict=True)),
        )
        return replace_node(graph, grown), {"margin": m}

    def tensors(
        self, network: Network, site: Site, edit: Edit, *, generator: torch.Generator, calibration: Tensor | None
    ) -> Tensors:
        name, m = f"{site.anchor}.weight", edit.plan["margin"]

        def pad(values: Mapping[str, Tensor], power: int = 1) -> dict[str, Tensor]:
            return dict(values) | ({name: F.pad(values[name], (m, m, m, m))} if name in values else {})

        return Tensors(pad(network.tensors), carry=pad)
