"""Take out nodes that hand on what they read, and branches that are zero."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from rlnas.graph import OPS, Graph, Node
from rlnas.graph.table.moves import DROPOUTS
from rlnas.network import Network, tensor_name
from rlnas.operators.simplify.base import Finding, Simplification, Tensors, kept, replaced, reread, saved
from rlnas.operators.simplify.follow import HOMOGENEOUS, computed
from rlnas.operators.simplify.layers import CONVOLUTIONS, is_layer


class RemoveIdentities(Simplification):
    """Take out what changes nothing.

    Identity nodes, dropout that drops nothing, layers that copy each channel (a Dirac kernel without bias), activations
    right after themselves where that does nothing, and summands that are zero for every input, such as a residual
    branch whose last layer is zero.
    """

    name = "remove_identities"

    def find(self, network: Network) -> tuple[Finding, ...]:
        graph, found = network.graph, []
        taken: set[str] = set()
        live = _depends_on_input(graph)
        for id in graph.order:
            node = graph.node(id)
            reason, zero = _passes(network, node), _zeros(network, node, live)
            if reason is None and not zero:
                continue
            after = _without(graph, node, zero)
            gone = {id, *graph.shapes} - set(after.shapes if after else ())
            if after is None or taken & gone:
                continue
            taken |= gone
            text = f"{id} {reason}" if reason else f"{', '.join(zero)} adds nothing to {id}"
            found.append(Finding(self.name, (id, *zero), *saved(graph, after), text))
        return tuple(found)

    def rewrite(self, graph: Graph, tensors: Tensors, findings: Sequence[Finding]) -> tuple[Graph, Tensors]:
        for finding in findings:
            id, *zero = finding.nodes
            after = _without(graph, graph.node(id), zero)
            assert after is not None
            graph = after
        return graph, kept(graph, tensors)


def _without(graph: Graph, node: Node, zero: Sequence[str]) -> Graph | None:
    """The graph without a node, or without some summands of it; None if that cannot be."""
    rest = tuple([i for i in node.inputs if i not in zero])
    return reread(graph, node.id, rest[0]) if len(rest) == 1 else replaced(graph, node.replace(inputs=rest))


def _passes(network: Network, node: Node) -> str | None:
    """Why a node hands on its only input as it is; None if it does not."""
    graph = network.graph
    if len(node.inputs) != 1:
        return None
    source = graph.node(node.inputs[0])
    if node.op == "identity" or (node.op in DROPOUTS and node["p"] == 0):
        return "does nothing"
    if OPS[node.op].idempotent and (source.op, source.attrs) == (node.op, node.attrs):
        return f"follows on {source.id}, which leaves nothing for it to do"
    if is_layer(graph, node.id) and graph.shapes[node.id] == graph.shapes[source.id] and _copies(network, node):
        return "is a layer that copies each channel"
    return None


def _copies(network: Network, node: Node) -> bool:
    """True for a layer that keeps its input's shape, whose weight copies every channel and whose bias is zero."""
    if node["bias"] and bool(network.tensors[f"{node.id}.bias"].any()):
        return False
    middle: tuple[int, ...] = ()
    if node.op != "linear":
        sizes = zip(node["padding"], node["dilation"], node["kernel_size"], strict=True)
        if node.op not in CONVOLUTIONS or max(node["stride"]) > 1 or any(p % d or p // d >= k for p, d, k in sizes):
            return False
        middle = tuple(p // d for p, d in zip(node["padding"], node["dilation"], strict=True))
    weight = network.tensors[f"{node.id}.weight"]
    dirac = torch.zeros_like(weight)
    for row in range(len(weight)):
        dirac[(row, row % weight.shape[1], *middle)] = 1.0
    return torch.equal(weight, dirac)


def _zeros(network: Network, node: Node, live: frozenset[str]) -> list[str]:
    """Summands that are zero and without which the others still make a value of the same shape."""
    shapes, zero = network.graph.shapes, [i for i in dict.fromkeys(node.inputs) if _vanishes(network, i)]
    while node.op == "add" and zero:
        if any(i in live and shapes[i] == shapes[node.id] for i in node.inputs if i not in zero):
            return zero
        zero.pop()
    return []


def _vanishes(network: Network, id: str) -> bool:
    """True if a value is zero for every input, in training mode too."""
    graph, node = network.graph, network.graph.node(id)

    def is_zero(name: str) -> bool:
        return name not in graph.params(id) or not bool(network.tensors[tensor_name(id, name)].any())

    if node.op == "parameter":
        return is_zero("")
    if graph.params(id):
        ends = "bias" in graph.params(id) or is_layer(graph, id)
        return (
            ends
            and is_zero("bias")
            and (is_zero("weight") or (is_layer(graph, id) and _vanishes(network, node.inputs[0])))
        )
    if node.op in ("mul", "matmul"):
        return any(_vanishes(network, i) for i in node.inputs)
    if node.op in ("add", "sub", "concat") or (node.op in HOMOGENEOUS and node.op != "alpha_dropout"):
        return all(_vanishes(network, i) for i in node.inputs)
    plain = OPS[node.op].call and len(node.inputs) == 1 and graph.facts[id].flow.kind == "elementwise"
    return bool(plain) and _vanishes(network, node.inputs[0]) and float(computed(node, torch.zeros(1))) == 0


def _depends_on_input(graph: Graph) -> frozenset[str]:
    """Nodes whose values have a batch axis."""
    live = {graph.input.id}
    for node in graph.sorted_nodes:
        if live.intersection(node.inputs):
            live.add(node.id)
    return frozenset(live)
