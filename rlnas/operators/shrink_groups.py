"""More groups in a convolution, refitted to what the layer made before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rlnas.graph import Graph, Site
from rlnas.graph.cells import Axis
from rlnas.graph.edit import replace_node
from rlnas.graph.ops import is_depthwise
from rlnas.network import Network
from rlnas.operators.base import Edit, Operator, Tensors, whole
from rlnas.operators.compensate import compensate
from rlnas.operators.remap import carry, remap
from rlnas.operators.style import CONVOLUTIONS

SWEEPS = 10


class MoreGroups(Operator):
    """Cut each group of a convolution into several, each of which reads its own share of the inputs only.

    Where nothing else depends on their order, channels are reordered first, so that those that matter to each other
    come into the same group. With calibration inputs the layer is then refitted by least squares to what it made
    before. The amount is the number of groups that each becomes.

    Optimizer state: what belongs to the weights that are left is kept.

    References:
        Huang et al., CondenseNet, CVPR 2018, arXiv:1711.09224.
    """

    name = "more_groups"
    exact = False
    shrinks = True
    amounts = (2, 4)
    anchors = frozenset(CONVOLUTIONS)

    def obstacle(self, graph: Graph, site: Site) -> str | None:
        node = graph.node(site.anchor)
        if node.op not in self.anchors:
            return f"{site.anchor} is a {node.op}, not a convolution"
        if not whole(site.amount) or site.amount < 2:
            return "the amount is the number of groups that each becomes, a whole number from 2 on"
        shapes = graph.input_shapes(site.anchor)
        if is_depthwise(node, shapes):
            return "every channel has a group of its own already"
        reads, makes = shapes[0][0] // node["groups"], node["out_channels"] // node["groups"]
        if reads % site.amount or makes % site.amount:
            return f"{reads} inputs and {makes} outputs of a group do not make {site.amount:g} equal parts"
        return None

    def rewrite(self, graph: Graph, site: Site) -> tuple[Graph, Mapping[str, Any]]:
        node = graph.node(site.anchor)
        return replace_node(graph, node.replace(groups=node["groups"] * int(site.amount))), {}

    def tensors(
        self, network: Network, site: Site, edit: Edit, *, generator: torch.Generator, calibration: Tensor | None
    ) -> Tensors:
        graph, id, parts = network.graph, site.anchor, int(site.amount)
        groups, name, rows = graph.node(id)["groups"], f"{id}.weight", graph.channels.rows[id]
        free = {n: _free(graph, rows[n]) if groups == 1 and n in rows else None for n in ("in", "out")}
        if free["in"] == free["out"]:
            free["in"] = None
        mass = network.tensors[name].double().flatten(2).square().sum(2)
        order = dict(zip(("out", "in"), _together(mass, parts, free["out"], free["in"]), strict=True))
        maps = {cell: order[n] for n, cell in free.items() if cell is not None}
        permute = carry(network, maps)

        def cut(values: Mapping[str, Tensor], power: int = 1) -> dict[str, Tensor]:
            return dict(values) | ({name: _blocks(values[name], groups, parts)} if name in values else {})

        values = cut(remap(network, maps, noise=0.0, generator=generator))
        made = Tensors(values, carry=lambda moments, power: cut(permute(moments, power)))
        if calibration is None:
            return made
        kept = {id: order["out"]} if free["out"] is not None else {}
        fitted = compensate(network, edit.graph, values, [id], calibration, kept=kept)
        return Tensors(fitted, compensated=True, carry=made.carry)


def _free(graph: Graph, row: Axis) -> int | None:
    """The one cell of a row whose channels may come in any order, if it is so."""
    cells = {cell for cell, _ in row}
    group = next((group for group in graph.channels if not cells.isdisjoint(group.cells)), None)
    if len(row) != 1 or group is None or group.fixed or group.parts or row[0][1] != 1:
        return None
    return row[0][0]


def _together(mass: Tensor, parts: int, free_out: int | None, free_in: int | None) -> tuple[Tensor, Tensor]:
    """Orders of outputs and inputs in which equal parts of them keep much of the mass, by turns for each.

    Args:
        mass: What ties outputs to inputs, shape (outputs, inputs).
    """
    bins = [torch.arange(n) * parts // n for n in mass.shape]
    for _ in range(SWEEPS if free_out is not None or free_in is not None else 0):
        before = [b.clone() for b in bins]
        for axis, is_free in enumerate((free_out, free_in)):
            if is_free is not None:
                ties = mass if axis == 0 else mass.T
                onto = torch.zeros(len(ties), parts, dtype=mass.dtype).index_add_(1, bins[1 - axis], ties)
                bins[axis] = _assigned(onto)
        if all([torch.equal(old, new) for old, new in zip(before, bins, strict=True)]):
            break
    return bins[0].argsort(stable=True), bins[1].argsort(stable=True)


def _assigned(ties: Tensor) -> Tensor:
    """A part for each row, all equally large, those first that would lose most by another."""
    n, parts = ties.shape
    room, chosen = [n // parts] * parts, torch.zeros(n, dtype=torch.int64)
    best = ties.sort(1, descending=True)
    regret = best.values[:, 0] - best.values[:, 1]
    for row in regret.argsort(descending=True, stable=True).tolist():
        part = next(p for p in best.indices[row].tolist() if room[p])
        chosen[row] = part
        room[part] -= 1
    return chosen


def _blocks(weight: Tensor, groups: int, parts: int) -> Tensor:
    """The blocks along the diagonal when each group is cut into parts."""
    outputs, inputs = len(weight) // (groups * parts), weight.shape[1] // parts
    return torch.cat(
        [
            weight[k * outputs : (k + 1) * outputs, k % parts * inputs : (k % parts + 1) * inputs]
            for k in range(groups * parts)
        ]
    )
