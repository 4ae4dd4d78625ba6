"""An operator of one's own: another activation in the place of a ReLU.

``own_operator:SwapActivation`` names it, wherever this folder can be imported from: see own_code.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from rlnas import Graph, Network, Operator, Site
from rlnas.graph import Node, complete
from rlnas.graph.edit import replace_node
from rlnas.operators import Edit, Tensors

ACTIVATIONS = {1: "gelu", 2: "silu"}


class SwapActivation(Operator):
    """Put the activation that the amount stands for in the place of a ReLU; weights stay as they are."""

    exact = False  # the outputs change
    amounts = tuple(ACTIVATIONS)
    anchors = frozenset({"relu"})

    def obstacle(self, graph: Graph, site: Site) -> str | None:
        if graph.node(site.anchor).op != "relu":
            return f"{site.anchor} is no ReLU"
        return None if site.amount in ACTIVATIONS else f"the amount is one of {ACTIVATIONS}"

    def rewrite(self, graph: Graph, site: Site) -> tuple[Graph, Mapping[str, Any]]:
        node = complete(Node.make(site.anchor, ACTIVATIONS[int(site.amount)], graph.node(site.anchor).inputs))
        return replace_node(graph, node), {}

    def tensors(
        self, network: Network, site: Site, edit: Edit, *, generator: torch.Generator, calibration: torch.Tensor | None
    ) -> Tensors:
        return Tensors(network.tensors)
