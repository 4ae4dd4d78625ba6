"""One branch less in a concatenation or in an add."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rlnas.errors import GraphError
from rlnas.graph import Graph, Node, Site
from rlnas.graph.edit import alive, bypass, resized_node
from rlnas.graph.facts import complete
from rlnas.network import Network, tensor_specs
from rlnas.operators.base import Edit, Operator, Tensors, kept_tensors, whole
from rlnas.operators.compensate import compensate, next_readers
from rlnas.operators.remap import axis_index, carry, remap
from rlnas.operators.remove import ancestors, shortcut
from rlnas.operators.style import CONVOLUTIONS
from rlnas.operators.widen import parts_agree

CUT = "cut_branch"
"""Stands in the place of the branch that goes: its channels are met where the branch's would be, and nowhere else."""


class RemoveBranch(Operator):
    """Take one input away from a concatenation or an add, with all that only it needs.

    Behind a concatenation the branch's channels go from all that reads them. With calibration inputs the layers that
    read the result are refitted by least squares. The amount says which input: of a concatenation the first is 1, of
    an add it is the first in the graph's order.

    Optimizer state: what belongs to the weights that are left is kept.

    References:
        He, Zhang, Sun, Channel Pruning for Accelerating Very Deep Neural Networks, ICCV 2017, arXiv:1707.06168.
    """

    name = "remove_branch"
    exact = False
    shrinks = True
    amounts = (1, 2, 3, 4)
    anchors = frozenset({"concat", "add"})

    def obstacle(self, graph: Graph, site: Site) -> str | None:
        node = graph.node(site.anchor)
        if node.op not in self.anchors:
            return f"{site.anchor} is a {node.op}, neither a concat nor an add"
        if not whole(site.amount) or not 1 <= site.amount <= len(node.inputs):
            return f"the amount says which of its {len(node.inputs)} inputs goes"
        if node.op == "add" and len(node.inputs) == 2 and shortcut(graph, site.anchor):
            return "one of its inputs is a shortcut around the other; remove_layer takes that branch away"
        if node.op == "concat" and _is_simple(graph, site.anchor):
            return None
        built = _rebuilt(graph, site)
        return built if isinstance(built, str) else None

    def rewrite(self, graph: Graph, site: Site) -> tuple[Graph, Mapping[str, Any]]:
        built = _rebuilt(graph, site)
        assert not isinstance(built, str)
        return built

    def tensors(
        self, network: Network, site: Site, edit: Edit, *, generator: torch.Generator, calibration: Tensor | None
    ) -> Tensors:
        graph, marked = edit.graph, edit.plan.get("marked")
        values, moments = kept_tensors(network, graph), None
        readers = [id for id in next_readers(network.graph, site.anchor) if id in graph]
        kept = {}
        if marked is not None:
            specs, wanted = tensor_specs(marked), tensor_specs(graph)
            stand_in = {name: torch.zeros(p.shape, dtype=network.dtype) for name, p in specs.items() if CUT in name}
            longer = Network(marked, {**kept_tensors(network, marked), **stand_in})
            maps = {cell: torch.zeros(0, dtype=torch.int64) for cell in edit.plan["cells"]}
            made, moments = remap(longer, maps, noise=0.0, generator=generator), carry(longer, maps)
            values = {name: tensor for name, tensor in made.items() if name in wanted}
            channels = marked.channels  # a reader whose outputs are added to what it reads loses some itself
            kept = {id: axis_index(channels.rows[id]["out"], channels.lengths, maps) for id in readers}
        if calibration is None or not readers:
            return Tensors(values, carry=moments)
        values = compensate(network, graph, values, readers, calibration, kept=kept)
        return Tensors(values, compensated=True, carry=moments)


def _rebuilt(graph: Graph, site: Site) -> tuple[Graph, Mapping[str, Any]] | str:
    """The graph without the branch, and a plan for the tensors; or why there is none, as a half sentence."""
    node = graph.node(site.anchor)
    ordered = sorted(node.inputs, key=graph.order.index) if node.op == "add" else list(node.inputs)
    branch = ordered.pop(int(site.amount) - 1)
    owned = any([n.op == "parameter" for n in graph.nodes])
    if owned and not any([id == graph.input.id or graph.input.id in ancestors(graph, id) for id in ordered]):
        return "without it, nothing would depend on the network's input"
    try:
        if node.op == "concat":
            return _cut(graph, node, branch, int(site.amount) - 1)
        if len(ordered) == 1:
            after, end = bypass(graph, node.id, ordered[0]), ordered[0]
        else:
            nodes = [n.replace(inputs=tuple(ordered)) if n.id == node.id else n for n in graph.sorted_nodes]
            after, end = Graph(tuple(alive(nodes, graph.output)), graph.output), node.id
    except GraphError as error:
        return f"what is left would be no network: {error}"
    return (after, {}) if after.shapes[end] == graph.shapes[node.id] else "without it, the sum has another shape"


def _is_simple(graph: Graph, concat: str) -> bool:
    """True if channels behind a concatenation go one by one into layers that read all, so that any can go."""
    axis, stack, seen = graph.node(concat)["axis"], [concat], {concat}
    if any([node.op == "parameter" for node in graph.nodes]) or graph.channels.axes[concat][axis] is None:
        return False
    while stack:
        current = stack.pop()
        if current == graph.output:
            return False
        for id in graph.consumers[current]:
            flow, node = graph.facts[id].flow, graph.node(id)
            if flow.kind == "layer" and flow.blocks == 1 and flow.axis == axis and "in" in graph.channels.rows[id]:
                continue
            passes = flow.kind in ("channelwise", "concat") and flow.axis == axis and not flow.pooled
            passes |= flow.kind == "elementwise" and len(node.inputs) == 1
            passes |= flow.kind == "along" and axis not in flow.axes and flow.kept
            if not passes or id in graph.shared:
                return False
            if id not in seen:
                seen.add(id)
                stack.append(id)
    return True


def _cut(graph: Graph, node: Node, branch: str, position: int) -> tuple[Graph, Mapping[str, Any]] | str:
    """The graph without an input of a concatenation: its channels go wherever they are met behind it."""
    shape, axis = graph.shapes[branch], node["axis"]
    if axis == len(shape) - 1:
        cut = Node.make(CUT, "linear", branch, out_channels=shape[axis])
    elif axis == 0 and len(shape) <= len(CONVOLUTIONS) + 1:
        ones = (1,) * (len(shape) - 1)
        cut = Node.make(CUT, CONVOLUTIONS[len(shape) - 2], branch, out_channels=shape[0], kernel_size=ones)
    else:
        return "it is not along the channels"
    inputs = tuple([CUT if i == position else id for i, id in enumerate(node.inputs)])
    nodes = [n.replace(inputs=inputs) if n.id == node.id else n for n in graph.sorted_nodes]
    marked = Graph((*nodes, complete(cut)), graph.output)
    channels = marked.channels
    mine = {cell for cell, _ in channels.rows[CUT]["out"]}
    group = next(group for group in channels if mine <= set(group.cells))
    lengths = dict.fromkeys(mine, 0)
    if group.fixed or not parts_agree(group, {**channels.lengths, **lengths}):
        return "what reads it needs all its channels, or equally many of each of its parts"
    left = tuple([id for id in inputs if id != CUT])
    if len(left) == 1:
        rest = [n.replace(inputs=tuple([left[0] if i == node.id else i for i in n.inputs])) for n in nodes]
    else:
        rest = [n.replace(inputs=left) if n.id == node.id else n for n in nodes]
    smaller = [resized_node(n, marked, channels, lengths) for n in alive(rest, graph.output)]
    return Graph(tuple(smaller), graph.output), {"marked": marked, "cells": mine}
