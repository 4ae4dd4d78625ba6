"""Remove a layer or a residual branch, compensated by least squares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rlnas.errors import GraphError
from rlnas.graph import OPS, Graph, Site
from rlnas.graph.edit import bypass
from rlnas.network import Network
from rlnas.operators.base import Edit, Operator, Reach, Tensors, kept_tensors
from rlnas.operators.compensate import compensate, next_readers


class RemoveLayer(Operator):
    """Remove a convolution or linear layer that keeps its input's shape, or the branch of a residual add.

    A BatchNorm that alone reads the layer goes with it, and so does the activation after them, unless nothing but that
    activation would stand between the layers before and after. With calibration inputs, the layers that read the result
    are refitted by least squares. The amount is 1.

    References:
        He, Zhang, Sun, Channel Pruning for Accelerating Very Deep Neural Networks, ICCV 2017, arXiv:1707.06168.
    """

    name = "remove_layer"
    exact = False
    shrinks = True
    amounts = (1,)

    def reach(self, op: str) -> Reach | None:
        return "layer" if op != "add" else None

    def obstacle(self, graph: Graph, site: Site) -> str | None:
        node = graph.node(site.anchor)
        if site.amount != 1:
            return "the amount is 1"
        if node.op == "add":
            return self._add_obstacle(graph, site.anchor)
        if OPS[node.op].family not in ("conv", "linear"):
            return f"{node.op} is neither a layer with weights nor a residual add"
        if graph.shapes[site.anchor] != graph.input_shapes(site.anchor)[0]:
            return "its output has another shape than its input"
        source, end = node.inputs[0], _end(graph, site.anchor)
        if graph.node(source).op == "input" or end == graph.output:
            return "the first and the last layer stay"
        if any(graph.node(id).op == "add" and source in graph.node(id).inputs for id in graph.consumers[end]):
            return "the branch would be left empty; remove it at its add"
        return None

    def _add_obstacle(self, graph: Graph, add: str) -> str | None:
        source = shortcut(graph, add)
        if source is None:
            return "none of its inputs is a shortcut around the others"
        if graph.shapes[source] != graph.shapes[add]:
            return "its shortcut has another shape than the sum"
        if graph.shared:
            try:
                bypass(graph, add, source)
            except GraphError:
                return "layers behind it share tensors with its branch"
        return None

    def rewrite(self, graph: Graph, site: Site) -> tuple[Graph, Mapping[str, Any]]:
        node = graph.node(site.anchor)
        source = shortcut(graph, site.anchor) if node.op == "add" else node.inputs[0]
        end = site.anchor if node.op == "add" else _end(graph, site.anchor)
        assert source is not None
        return bypass(graph, end, source), {"end": end}

    def tensors(
        self, network: Network, site: Site, edit: Edit, *, generator: torch.Generator, calibration: Tensor | None
    ) -> Tensors:
        values, readers = kept_tensors(network, edit.graph), next_readers(network.graph, edit.plan["end"])
        if calibration is None or not readers:
            return Tensors(values)
        return Tensors(compensate(network, edit.graph, values, readers, calibration), compensated=True)


def _end(graph: Graph, id: str) -> str:
    """The last node that goes with a layer."""
    end = _alone_after(graph, id, "norm") or id
    activation = _alone_after(graph, end, "activation")
    return activation if activation and _activated(graph, graph.node(id).inputs[0]) else end


def _alone_after(graph: Graph, id: str, family: str) -> str | None:
    """The only reader of a node, if it is of that family."""
    consumers = graph.consumers[id]
    alone = len(consumers) == 1 and id != graph.output
    return consumers[0] if alone and OPS[graph.node(consumers[0]).op].family == family else None


def _activated(graph: Graph, id: str) -> bool:
    """True if no value reaches a node from a layer, a BatchNorm or an add without an activation on its way."""
    stack, seen = [id], {id}
    while stack:
        node = graph.node(stack.pop())
        if OPS[node.op].family == "activation":
            continue
        if OPS[node.op].family not in ("pool", "other") and node.op != "concat":
            return False
        stack += [i for i in node.inputs if i not in seen]
        seen.update(node.inputs)
    return True


def shortcut(graph: Graph, add: str) -> str | None:
    """The input of an add from which all its other inputs are computed."""
    inputs = graph.node(add).inputs
    for candidate in inputs:
        others = [i for i in inputs if i != candidate]
        if others and all(candidate in ancestors(graph, other) for other in others):
            return candidate
    return None


def ancestors(graph: Graph, id: str) -> set[str]:
    """All nodes that a node depends on."""
    found: set[str] = set()
    stack = list(graph.node(id).inputs)
    while stack:
        current = stack.pop()
        if current not in found:
            found.add(current)
            stack += graph.node(current).inputs
    return found
