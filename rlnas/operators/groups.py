"""Fewer groups in a grouped convolution."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rlnas.graph import Graph, Site
from rlnas.graph.edit import replace_node
from rlnas.network import Network
from rlnas.operators.base import Edit, Operator, Tensors, whole
from rlnas.operators.style import CONVOLUTIONS


class FewerGroups(Operator):
    """Let each output of a grouped or depthwise convolution read more inputs, with weights that are zero at first.

    Several groups become one, in which the old weights stand in blocks along the diagonal. The amount is the number of
    groups that are left; it must divide the present number. With 1 the convolution is dense.

    Optimizer state: that of the old weights is kept, the zero blocks start from zero.

    References:
        Xie et al., Aggregated Residual Transformations (ResNeXt), CVPR 2017, arXiv:1611.05431.
    """

    name = "fewer_groups"
    exact = True
    amounts = (1, 4)
    anchors = frozenset(CONVOLUTIONS)

    def obstacle(self, graph: Graph, site: Site) -> str | None:
        node = graph.node(site.anchor)
        if node.op not in self.anchors:
            return f"{site.anchor} is a {node.op}, not a convolution"
        if not whole(site.amount) or site.amount < 1:
            return "the amount is the number of groups that are left, a whole number"
        if site.amount >= node["groups"] or node["groups"] % site.amount:
            return f"its {node['groups']} groups do not make {site.amount:g} larger ones"
        return None

    def rewrite(self, graph: Graph, site: Site) -> tuple[Graph, Mapping[str, Any]]:
        node = graph.node(site.anchor)
        plan = {"groups": node["groups"], "merged": node["groups"] // int(site.amount)}
        return replace_node(graph, node.replace(groups=int(site.amount))), plan

    def tensors(
        self, network: Network, site: Site, edit: Edit, *, generator: torch.Generator, calibration: Tensor | None
    ) -> Tensors:
        name, groups, merged = f"{site.anchor}.weight", edit.plan["groups"], edit.plan["merged"]

        def embed(values: Mapping[str, Tensor], power: int = 1) -> dict[str, Tensor]:
            return dict(values) | ({name: _embedded(values[name], groups, merged)} if name in values else {})

        return Tensors(embed(network.tensors), carry=embed)


def _embedded(weight: Tensor, groups: int, merged: int) -> Tensor:
    """Weight in which each run of ``merged`` groups is one."""
    outputs, reads = weight.shape[0] // groups, weight.shape[1]
    wide = weight.new_zeros(weight.shape[0], merged * reads, *weight.shape[2:])
    for group in range(groups):
        rows = slice(group * outputs, (group + 1) * outputs)
        start = group % merged * reads
        wide[rows, start : start + reads] = weight[rows]
    return wide
