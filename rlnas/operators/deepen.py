"""Deepen: one more layer after an activation that leaves its own output as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rlnas.graph import OPS, Graph, Node, Site
from rlnas.graph.edit import Names, insert_after
from rlnas.network import Network
from rlnas.operators.base import Edit, Operator, Tensors, kept_tensors, whole


def kernel_obstacle(shape: tuple[int, ...], kernel: float) -> str | None:
    """Why a same-padded convolution of that size makes no sense on a map of that shape."""
    if not whole(kernel) or kernel < 1 or kernel % 2 == 0:
        return "the amount is the kernel size, an odd whole number"
    if len(shape) == 3 and int(kernel) // 2 >= min(shape[1:]):
        return f"a kernel of {int(kernel)} reaches past a map of {shape[1]} x {shape[2]}"
    if len(shape) == 1 and kernel != 1:
        return "features without a place take only a kernel of 1"
    if len(shape) not in (1, 3):
        return f"a value of shape {shape} is neither a map nor features"
    return None


class Deepen(Operator):
    """Insert an identity convolution and an activation after a ReLU.

    The convolution keeps every channel (a Dirac kernel), has a bias and no BatchNorm, so that training mode is exact
    too. After flat features a linear layer is inserted. The amount is the kernel size.

    References:
        Chen, Goodfellow, Shlens, Net2Net, ICLR 2016, arXiv:1511.05641.
    """

    name = "deepen"
    exact = True
    amounts = (1, 3)

    def obstacle(self, graph: Graph, site: Site) -> str | None:
        node = graph.node(site.anchor)
        if not OPS[node.op].idempotent:
            return f"{node.op} changes its own output; an identity layer goes after relu or relu6"
        if graph.channel_axes[site.anchor] != 0:
            return "its channels do not come first, so that a convolution would not read them"
        return kernel_obstacle(graph.shapes[site.anchor], site.amount)

    def rewrite(self, graph: Graph, site: Site) -> tuple[Graph, Mapping[str, Any]]:
        names, shape = Names(graph), graph.shapes[site.anchor]
        k = int(site.amount)
        if len(shape) == 3:
            layer = Node.make(
                names.new("conv"),
                "conv2d",
                site.anchor,
                out_channels=shape[0],
                kernel_size=(k, k),
                padding=(k // 2, k // 2),
            )
        else:
            layer = Node.make(names.new("linear"), "linear", site.anchor, out_channels=shape[0])
        op = graph.node(site.anchor).op
        activation = Node.make(names.new(op), op, layer.id)
        return insert_after(graph, site.anchor, (layer, activation), output=activation.id), {"layer": layer.id}

    def tensors(
        self, network: Network, site: Site, edit: Edit, *, generator: torch.Generator, calibration: Tensor | None
    ) -> Tensors:
        layer = edit.plan["layer"]
        new = {n: torch.empty(p.shape, dtype=network.dtype) for n, p in edit.graph.params(layer).items()}
        make_identity = nn.init.eye_ if new["weight"].dim() == 2 else nn.init.dirac_
        make_identity(new["weight"])
        nn.init.zeros_(new["bias"])
        return Tensors(kept_tensors(network, edit.graph) | {f"{layer}.{name}": t for name, t in new.items()})
