"""Deepen: more layers after an activation, which pass their input on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from rlnas.graph import OPS, Graph, Node, Site
from rlnas.graph.edit import insert_after
from rlnas.network import Network
from rlnas.operators.base import Edit, Operator, Reach, Tensors
from rlnas.operators.fill import FRESH, IDENTITY, MIRROR, ZERO, filled, unmirror
from rlnas.operators.style import CONVOLUTIONS, HIDDEN, Chain, form_of, kernel_obstacle

IDEMPOTENT = frozenset([op for op in HIDDEN | {"clamp"} if OPS[op].idempotent])
"""Activations that leave their own output as it is."""

MIRRORED = frozenset({"silu", "gelu", "hardswish", "leaky_relu"})
"""Activations a with a(x) - a(-x) = (1 + slope) x; the slope is 0 but for a leaky ReLU."""

BEFORE = ("batch_norm1d", "batch_norm2d", "batch_norm3d", "group_norm", "dropout", "identity")


class Deepen(Operator):
    """Insert layers that pass their input on after an activation.

    After ReLU, ReLU6 and other activations that leave their own output as it is: an identity layer (a Dirac kernel) and
    the activation once more. After SiLU, GELU, Hardswish and leaky ReLU, of which a(x) - a(-x) is a multiple of x:
    a layer that makes x and -x, the activation, and a layer of kernel 1 that takes one from the other. After any other,
    and where these would have to be grouped: x plus a layer, the activation, and a layer that is zero at first.

    A layer is a convolution on maps, and linear where the channels are the last axis. It has a bias and no norm, so
    that training mode is exact too. It has as many groups as the convolution before the activation; with a kernel of 1
    it has one group, since nothing else would mix channels. The amount is the kernel size.

    Optimizer state: the new layers start from zero, all else is kept.

    References:
        Chen, Goodfellow, Shlens, Net2Net, ICLR 2016, arXiv:1511.05641.
    """

    name = "deepen"
    exact = True
    amounts = (1, 3)
    anchors = HIDDEN | {"clamp"}

    def reach(self, op: str) -> Reach | None:
        return "value"

    def obstacle(self, graph: Graph, site: Site) -> str | None:
        node = graph.node(site.anchor)
        if node.op not in self.anchors:
            return f"{node.op} is no activation between layers"
        return kernel_obstacle(form_of(graph, site.anchor), site.amount)

    def rewrite(self, graph: Graph, site: Site) -> tuple[Graph, Mapping[str, Any]]:
        node, kernel = graph.node(site.anchor), int(site.amount)
        chain = Chain(graph, site.anchor)
        channels, groups = chain.form.channels, _groups(graph, site.anchor) if kernel > 1 else 1
        kind = self.kind(node, groups)
        if kind == "identity":
            chain.layer(channels, IDENTITY, kernel=kernel, groups=groups)
            chain.activation(node)
        elif kind == "mirror":
            chain.layer(2 * channels, MIRROR, kernel=kernel)
            chain.activation(node)
            chain.layer(channels, unmirror(_slope(node)))
        else:
            chain.layer(channels, FRESH, kernel=kernel, groups=groups)
            chain.activation(None if node.op == "prelu" else node)
            chain.layer(channels, ZERO, kernel=kernel, groups=groups)
            chain.add("add", site.anchor, chain.last)
        return insert_after(graph, site.anchor, chain.nodes, output=chain.last), {"fill": chain.fill}

    def kind(self, node: Node, groups: int) -> Literal["identity", "mirror", "residual"]:
        """Which of the three constructions goes after an activation."""
        if node.op in IDEMPOTENT:
            return "identity"
        return "mirror" if node.op in MIRRORED and groups == 1 and _slope(node) > -0.5 else "residual"

    def tensors(
        self, network: Network, site: Site, edit: Edit, *, generator: torch.Generator, calibration: Tensor | None
    ) -> Tensors:
        return Tensors(filled(network, edit.graph, edit.plan["fill"], generator=generator))


def _slope(node: Node) -> float:
    return float(node["negative_slope"]) if node.op == "leaky_relu" else 0.0


def _groups(graph: Graph, id: str) -> int:
    """Groups of the convolution that an activation belongs to."""
    node: Node = graph.node(graph.node(id).inputs[0])
    while node.op in BEFORE:
        node = graph.node(node.inputs[0])
    return int(node["groups"]) if node.op in CONVOLUTIONS else 1
