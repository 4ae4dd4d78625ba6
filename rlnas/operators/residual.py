"""Insert a residual block that adds nothing at first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from rlnas.graph import OPS, Graph, Site
from rlnas.graph.edit import insert_after
from rlnas.network import Network
from rlnas.operators.base import Edit, Operator, Reach, Tensors
from rlnas.operators.fill import FRESH, ZERO, filled
from rlnas.operators.style import HIDDEN, Chain, form_of, kernel_obstacle

Flavour = Literal["basic", "bottleneck", "inverted"]

NAMES: dict[Flavour, str] = {
    "basic": "insert_residual",
    "bottleneck": "insert_bottleneck",
    "inverted": "insert_inverted",
}
FACTOR = 4


class InsertResidual(Operator):
    """Turn a value x into x + f(x), where the last layer of the block f is zero.

    On maps the basic block is two convolutions; the bottleneck a convolution of kernel 1 to a quarter of the channels,
    one of the kernel and one back; the inverted block goes to four times the channels and has a depthwise convolution
    in the middle. Where channels are the last axis the layers are linear, of which the basic block has as many hidden
    units as x has channels, the bottleneck a quarter, and the inverted block four times as many. In between stands the
    network's own activation, and its own norm: on maps after each layer but the last, on the last axis before the
    block. All but the last layer are random, so that the zero layer learns in the first step and the rest from the
    second. The amount is the kernel size.

    Optimizer state: the block starts from zero, all else is kept.

    References:
        He et al., Deep Residual Learning, CVPR 2016, arXiv:1512.03385.
        Sandler et al., MobileNetV2, CVPR 2018, arXiv:1801.04381.
        Gesmundo, Maile, Composable Function-preserving Expansions, 2023, arXiv:2308.06103 (the zero layer).
    """

    exact = True
    amounts = (1, 3)
    anchors = HIDDEN | {"add", "concat"} | {op.name for op in OPS.values() if op.family == "pool"}

    def __init__(self, flavour: Flavour = "basic") -> None:
        self.name = NAMES[flavour]
        self.flavour = flavour

    def reach(self, op: str) -> Reach | None:
        return "value"

    def obstacle(self, graph: Graph, site: Site) -> str | None:
        if graph.node(site.anchor).op not in self.anchors:
            return "a block goes after an activation, a pooling layer, an add or a concat"
        return kernel_obstacle(form_of(graph, site.anchor), site.amount)

    def rewrite(self, graph: Graph, site: Site) -> tuple[Graph, Mapping[str, Any]]:
        chain, kernel = Chain(graph, site.anchor), int(site.amount)
        channels = chain.form.channels
        hidden = {"basic": channels, "bottleneck": -(-channels // FACTOR), "inverted": channels * FACTOR}[self.flavour]
        on_map = bool(chain.form.places)
        if not on_map:
            chain.norm()
        for groups, size in self._layers(hidden, kernel if on_map else 0):
            chain.normed_layer(hidden, kernel=size, groups=groups) if on_map else chain.layer(hidden, FRESH)
            chain.activation()
        chain.layer(channels, ZERO, kernel=kernel if self.flavour == "basic" else 1)
        chain.add("add", site.anchor, chain.last)
        return insert_after(graph, site.anchor, chain.nodes, output=chain.last), {"fill": chain.fill}

    def _layers(self, hidden: int, kernel: int) -> list[tuple[int, int]]:
        """(Groups, kernel size) of each layer but the last; a kernel of 0 for a linear layer."""
        if self.flavour == "basic" or kernel <= 1:
            return [(1, max(kernel, 1))]
        return [(1, 1), (hidden if self.flavour == "inverted" else 1, kernel)]

    def tensors(
        self, network: Network, site: Site, edit: Edit, *, generator: torch.Generator, calibration: Tensor | None
    ) -> Tensors:
        return Tensors(filled(network, edit.graph, edit.plan["fill"], generator=generator))
