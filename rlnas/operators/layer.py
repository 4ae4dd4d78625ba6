"""Insert a layer into a pre-norm network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rlnas.graph import Graph, Node, Site
from rlnas.graph.edit import Names, insert_after
from rlnas.network import Network, fresh_tensor, tensor_name
from rlnas.operators.attention import LINEAR
from rlnas.operators.base import Edit, Operator, Tensors, kept_tensors
from rlnas.operators.hidden import NORMS

PASSES_ZERO = LINEAR - {"add", "sub", "concat"}


@dataclass(frozen=True)
class Branch:
    """What a residual add adds to its stream.

    Attributes:
        add: The residual add.
        source: The stream before it.
        nodes: All nodes between the two, and parameters that nothing else reads, each after what it reads.
        last: The layers whose outputs are added.
        attends: True if it contains an attention.
    """

    add: str
    source: str
    nodes: tuple[str, ...]
    last: tuple[str, ...]
    attends: bool


def find_branch(graph: Graph, add: str) -> Branch | str:
    """The pre-norm branch that ends at an add; or why there is none, as a half sentence."""
    node = graph.node(add)
    if node.op != "add":
        return f"{add} is a {node.op}, not a residual add"
    source, *ends = sorted(node.inputs, key=lambda i: graph.depths[i])
    if source in ends or any([graph.shapes[i] != graph.shapes[add] for i in node.inputs]):
        return "it does not add a branch to a residual stream"
    nodes: set[str] = set()
    stack = [*ends]
    while stack:
        id = stack.pop()
        if id == source or id in nodes:
            continue
        if graph.node(id).op == "input":
            return "its branch reads more than the residual stream"
        nodes.add(id)
        stack += graph.node(id).inputs
    if any([source in graph.node(id).inputs and graph.node(id).op not in NORMS for id in nodes]):
        return "its branch does not begin with a norm"
    if not nodes.isdisjoint(graph.shared):
        return "its branch has tensors that are shared with another node"
    last = [_last_layer(graph, end) for end in ends]
    found = tuple([id for id in last if id is not None])
    if len(found) < len(last):
        return "its branch does not end with a layer"
    own = [id for id in graph.order if id in nodes and _copied(graph, id, nodes)]
    return Branch(add, source, tuple(own), found, any([graph.node(id).op == "attention" for id in own]))


def _copied(graph: Graph, id: str, nodes: set[str]) -> bool:
    """False for parameters that others read too, or that are not trained: the new branch reads the same."""
    node = graph.node(id)
    return node.op != "parameter" or (node["trained"] and nodes.issuperset(graph.consumers[id]))


def _last_layer(graph: Graph, end: str) -> str | None:
    """The layer that makes a branch zero if it is zero."""
    node = graph.node(end)
    while graph.facts[node.id].flow.kind != "layer":
        inputs = [i for i in node.inputs if graph.node(i).op != "parameter"]
        if len(inputs) != 1 or not (node.op in PASSES_ZERO or node.op == "mul"):
            return None
        node = graph.node(inputs[0])
    return node.id if graph.node(node.id).op != "parameter" else None


class InsertLayer(Operator):
    """Repeat a branch of a pre-norm network after its residual add: the same norm, heads, widths and activation.

    The last layer of the new branch is zero, all others are made at random; parameters without a layer, such as a scale
    of the branch, start as they are in the branch that is repeated. The amount is the number of branches: 1 repeats
    the add's own, attention or not; 2 repeats a whole layer, an attention and the branch after it.

    References:
        Gesmundo, Maile, Composable Function-preserving Expansions, 2023, arXiv:2308.06103 (layer addition).
    """

    name = "insert_layer"
    exact = True
    amounts = (1, 2)
    anchors = frozenset({"add"})

    def obstacle(self, graph: Graph, site: Site) -> str | None:
        branches = _branches(graph, site)
        if isinstance(branches, str):
            return branches
        ids = [id for branch in branches for id in branch.nodes]
        if any([graph.node(id).op == "layer_norm" and _normalized(graph, id) == 1 for id in ids]):
            return "its branch normalises single values, so that a new one would make nothing of its input"
        return None

    def rewrite(self, graph: Graph, site: Site) -> tuple[Graph, Mapping[str, Any]]:
        branches = _branches(graph, site)
        assert not isinstance(branches, str)
        names, end = Names(graph), site.anchor
        nodes: list[Node] = []
        copies: dict[str, str | None] = {}
        for branch in branches:
            renamed = {branch.source: end}
            for id in branch.nodes:
                node = graph.node(id)
                renamed[id] = names.new(id.rstrip("0123456789") or node.op)
                nodes.append(_reading(node, renamed[id], renamed))
            add = graph.node(branch.add)
            end = names.new(branch.add.rstrip("0123456789") or add.op)
            nodes.append(_reading(add, end, renamed))
            copies |= {renamed[id]: None if id in branch.last else id for id in branch.nodes}
        return insert_after(graph, site.anchor, nodes, output=end), {"copies": copies}

    def tensors(
        self, network: Network, site: Site, edit: Edit, *, generator: torch.Generator, calibration: Tensor | None
    ) -> Tensors:
        values = kept_tensors(network, edit.graph)
        for id, original in edit.plan["copies"].items():
            for name, param in edit.graph.params(id).items():
                full = tensor_name(id, name)
                if original is None:
                    values[full] = torch.zeros(param.shape, dtype=network.dtype)
                elif edit.graph.node(id).op == "parameter":
                    kept = network.tensors[tensor_name(original, name)]
                    # A factor of zero on a layer of zeros would leave both without a gradient.
                    values[full] = kept.clone() if bool(kept.any()) else torch.ones_like(kept)
                else:
                    values[full] = fresh_tensor(param, generator=generator, dtype=network.dtype)
        return Tensors(values)


def _normalized(graph: Graph, id: str) -> int:
    """How many values a layer norm takes together."""
    return math.prod(graph.shapes[id][-graph.node(id)["dims"] :])


def _branches(graph: Graph, site: Site) -> tuple[Branch, ...] | str:
    """The branches that are repeated, in order; or why none are."""
    if site.amount not in (1, 2):
        return "the amount is the number of branches to repeat, 1 or 2"
    own = find_branch(graph, site.anchor)
    if isinstance(own, str) or site.amount == 1:
        return own if isinstance(own, str) else (own,)
    before = find_branch(graph, own.source)
    if isinstance(before, str) or not before.attends or own.attends:
        return "it does not end a layer of an attention and another branch"
    return before, own


def _reading(node: Node, id: str, renamed: Mapping[str, str]) -> Node:
    """A copy of a node under another name that reads copies."""
    return Node(id, node.op, tuple([renamed.get(i, i) for i in node.inputs]), node.attrs)
