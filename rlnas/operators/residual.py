"""Insert a residual block that adds nothing at first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rlnas.graph import OPS, Graph, Node, Site
from rlnas.graph.edit import Names, insert_after
from rlnas.network import Network, fresh_tensor
from rlnas.operators.base import Edit, Operator, Tensors, kept_tensors
from rlnas.operators.deepen import kernel_obstacle


class InsertResidual(Operator):
    """Turn a map x into x + conv(relu(conv(x))) whose last convolution is zero.

    The first convolution is followed by BatchNorm where the network has any, and is initialized at random, so that the
    zero layer learns in the first step and the rest from the second. The amount is the kernel size.

    References:
        Gesmundo, Maile, Composable Function-preserving Expansions, 2023, arXiv:2308.06103 (the rule of the zero layer).
    """

    name = "insert_residual"
    exact = True
    amounts = (3,)

    def obstacle(self, graph: Graph, site: Site) -> str | None:
        node, shape = graph.node(site.anchor), graph.shapes[site.anchor]
        if len(shape) != 3:
            return f"{site.anchor} makes features without a place, not a map"
        if OPS[node.op].family not in ("activation", "pool", "merge"):
            return "a block goes after an activation, a pooling layer, an add or a concat"
        if graph.channel_axes[site.anchor] != 0:
            return "its channels do not come first, so that a convolution would not read them"
        return kernel_obstacle(shape, site.amount)

    def rewrite(self, graph: Graph, site: Site) -> tuple[Graph, Mapping[str, Any]]:
        names, channels = Names(graph), graph.shapes[site.anchor][0]
        k = int(site.amount)
        norm = any(OPS[node.op].family == "norm" for node in graph.nodes)
        size = {"out_channels": channels, "kernel_size": (k, k), "padding": (k // 2, k // 2)}
        first = Node.make(names.new("conv"), "conv2d", site.anchor, bias=not norm, **size)
        nodes = [first]
        if norm:
            nodes.append(Node.make(names.new("bn"), "batch_norm2d", nodes[-1].id))
        nodes.append(Node.make(names.new("relu"), "relu", nodes[-1].id))
        last = Node.make(names.new("conv"), "conv2d", nodes[-1].id, **size)
        total = Node.make(names.new("add"), "add", (site.anchor, last.id))
        after = insert_after(graph, site.anchor, [*nodes, last, total], output=total.id)
        return after, {"fresh": tuple(node.id for node in nodes), "zero": last.id}

    def tensors(
        self, network: Network, site: Site, edit: Edit, *, generator: torch.Generator, calibration: Tensor | None
    ) -> Tensors:
        values, dtype = kept_tensors(network, edit.graph), network.dtype
        for id in edit.plan["fresh"]:
            for name, param in edit.graph.params(id).items():
                values[f"{id}.{name}"] = fresh_tensor(param, generator=generator, dtype=dtype)
        for name, param in edit.graph.params(edit.plan["zero"]).items():
            values[f"{edit.plan['zero']}.{name}"] = torch.zeros(param.shape, dtype=dtype)
        return Tensors(values)
