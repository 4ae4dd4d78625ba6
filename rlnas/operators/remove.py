"""Remove a layer or a residual branch, compensated by least squares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rlnas.graph import OPS, Graph, Site
from rlnas.graph.edit import bypass
from rlnas.network import Network
from rlnas.operators.base import Edit, Operator, Tensors, kept_tensors
from rlnas.operators.compensate import compensate, next_readers


class RemoveLayer(Operator):
    """Remove a convolution or linear layer that keeps its input's shape, or the branch of a residual add.

    A BatchNorm and an activation that follow the layer and are read by nothing else go with it. With calibration
    inputs, the layers that read the result are refitted by least squares. The amount is 1.

    References:
        He, Zhang, Sun, Channel Pruning for Accelerating Very Deep Neural Networks, ICCV 2017, arXiv:1707.06168.
    """

    name = "remove_layer"
    exact = False
    shrinks = True
    amounts = (1,)

    def obstacle(self, graph: Graph, site: Site) -> str | None:
        node = graph.node(site.anchor)
        if site.amount != 1:
            return "the amount is 1"
        if node.op == "add":
            return None if _shortcut(graph, site.anchor) else "none of its inputs is a shortcut around the others"
        if OPS[node.op].family not in ("conv", "linear"):
            return f"{node.op} is neither a layer with weights nor a residual add"
        if graph.shapes[site.anchor] != graph.input_shapes(site.anchor)[0]:
            return "its output has another shape than its input"
        if graph.node(node.inputs[0]).op == "input" or _last(graph, site.anchor) == graph.output:
            return "the first and the last layer stay"
        if any(
            graph.node(id).op == "add" and node.inputs[0] in graph.node(id).inputs
            for id in graph.consumers[_last(graph, site.anchor)]
        ):
            return "the branch would be left empty; remove it at its add"
        return None

    def rewrite(self, graph: Graph, site: Site) -> tuple[Graph, Mapping[str, Any]]:
        node = graph.node(site.anchor)
        source = _shortcut(graph, site.anchor) if node.op == "add" else node.inputs[0]
        end = site.anchor if node.op == "add" else _last(graph, site.anchor)
        assert source is not None
        after = bypass(graph, end, source)
        return after, {"readers": tuple(i for i in next_readers(graph, end) if i in after)}

    def tensors(
        self, network: Network, site: Site, edit: Edit, *, generator: torch.Generator, calibration: Tensor | None
    ) -> Tensors:
        values, readers = kept_tensors(network, edit.graph), edit.plan["readers"]
        if calibration is None or not readers:
            return Tensors(values)
        return Tensors(compensate(network, edit.graph, values, readers, calibration), compensated=True)


def _last(graph: Graph, id: str) -> str:
    """End of the run of layer, BatchNorm and activation that starts at a layer."""
    for family in ("norm", "activation"):
        consumers = graph.consumers[id]
        if id != graph.output and len(consumers) == 1 and OPS[graph.node(consumers[0]).op].family == family:
            id = consumers[0]
    return id


def _shortcut(graph: Graph, add: str) -> str | None:
    """The input of an add from which all its other inputs are computed."""
    inputs = graph.node(add).inputs
    for candidate in inputs:
        others = [i for i in inputs if i != candidate]
        if others and all(candidate in _ancestors(graph, other) for other in others):
            return candidate
    return None


def _ancestors(graph: Graph, id: str) -> set[str]:
    found: set[str] = set()
    stack = list(graph.node(id).inputs)
    while stack:
        current = stack.pop()
        if current not in found:
            found.add(current)
            stack += graph.node(current).inputs
    return found
