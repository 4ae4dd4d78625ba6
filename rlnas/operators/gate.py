"""Add a squeeze-and-excitation gate that is open at first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rlnas.graph import OPS, Graph, Site
from rlnas.graph.edit import insert_after
from rlnas.network import Network
from rlnas.operators.base import Edit, Operator, Tensors, whole
from rlnas.operators.fill import FRESH, ZERO, filled
from rlnas.operators.style import HIDDEN, Chain, form_of

BRANCH_ENDS = frozenset([op.name for op in OPS.values() if op.family in ("norm", "conv")])


class AddGate(Operator):
    """Multiply each channel of a map by 2 sigmoid(f(means of all channels)), where the last layer of f is zero.

    f is a convolution to fewer channels, the network's activation, and a convolution back, of kernel 1 on a map of one
    place. The amount is the factor by which the channels in between are fewer.

    Optimizer state: the gate starts from zero, all else is kept.

    References:
        Hu et al., Squeeze-and-Excitation Networks, CVPR 2018, arXiv:1709.01507.
    """

    name = "add_gate"
    exact = True
    amounts = (4,)
    anchors = HIDDEN | BRANCH_ENDS

    def obstacle(self, graph: Graph, site: Site) -> str | None:
        node, form = graph.node(site.anchor), form_of(graph, site.anchor)
        if node.op not in self.anchors:
            return "a gate goes after an activation, or at the end of a branch"
        if not whole(site.amount) or not 1 <= site.amount <= 64:
            return "the amount is the factor by which the channels inside are fewer, a whole number from 1 to 64"
        if form is None or not form.places or max(form.places) == 1:
            return "there is no map whose places could be averaged"
        readers = {graph.node(id).op for id in graph.consumers[site.anchor]}
        if node.op in BRANCH_ENDS and readers != {"add"}:
            return "a gate goes after an activation, or at the end of a branch"
        return "it has a gate already" if "mul" in readers else None

    def rewrite(self, graph: Graph, site: Site) -> tuple[Graph, Mapping[str, Any]]:
        chain = Chain(graph, site.anchor)
        channels, n = chain.form.channels, len(chain.form.places)
        chain.add(f"adaptive_avg_pool{n}d", prefix="pool", output_size=(1,) * n)
        chain.layer(max(1, channels // int(site.amount)), FRESH)
        chain.activation()
        chain.layer(channels, ZERO)
        chain.add("sigmoid")
        chain.add("mul_scalar", value=2.0)
        chain.add("mul", site.anchor, chain.last)
        return insert_after(graph, site.anchor, chain.nodes, output=chain.last), {"fill": chain.fill}

    def tensors(
        self, network: Network, site: Site, edit: Edit, *, generator: torch.Generator, calibration: Tensor | None
    ) -> Tensors:
        return Tensors(filled(network, edit.graph, edit.plan["fill"], generator=generator))
