"""Where the blocks of a graph end, and the network between two of these values."""

from __future__ import annotations

import math

from rlnas.graph import OPS, Graph, Node
from rlnas.graph.facts import shared
from rlnas.graph.graph import complete
from rlnas.graph.order import reading_order
from rlnas.network import Network, tensor_name

WEIGHTY = ("conv", "linear", "attention")


def block_ends(graph: Graph) -> tuple[str, ...]:
    """Ids of the values that the blocks of a graph end with, first to last.

    The graph is cut wherever a single value is alive. A block begins with each piece that has a layer with weights (a
    residual block is one piece, and so is a layer of a chain), and takes along the norms, activations and poolings
    behind it. Values of a single place are left out: what pools everything and classifies is no block.
    """
    order = reading_order(graph)
    left = {id: len(graph.consumers[id]) for id in order}
    alive: set[str] = set()
    ends: list[str] = []
    weighty = False
    for id in order:
        node = graph.node(id)
        weighty = weighty or OPS[node.op].family in WEIGHTY
        if node.op == "parameter":
            continue
        for i in node.inputs:
            if graph.node(i).op != "parameter":
                left[i] -= 1
                if not left[i]:
                    alive.discard(i)
        alive.add(id)
        if len(alive) > 1 or not _is_map(graph, id):
            continue
        if weighty:
            ends.append(id)
            weighty = False
        elif ends:
            ends[-1] = id
    return tuple(ends)


def _is_map(graph: Graph, id: str) -> bool:
    """True for a value with channels at more than one place."""
    shape, axis = graph.shapes[id], graph.channel_axes[id]
    return axis is not None and math.prod(shape) > shape[axis]


def between(network: Network, start: str | None, end: str) -> Network:
    """The part of a network that makes one value of another, or of the network's input.

    Everything on the way to the end must pass through the start. A layer that uses another's tensors gets a copy.
    """
    graph = network.graph
    nodes: dict[str, Node] = {}
    tensors = {}
    waiting = [end]
    while waiting:
        id = waiting.pop()
        if id in nodes:
            continue
        node = graph.node(id)
        if id == start:
            nodes[id] = complete(Node.make(id, "input", shape=graph.shapes[id], dtype="float32"))
            continue
        owner = shared(node) or id
        for name in graph.params(owner):
            tensors[tensor_name(id, name)] = network.tensors[tensor_name(owner, name)]
        nodes[id] = _alone(node)
        waiting += node.inputs
    assert start is None or start in nodes, f"{end} does not come from {start}"
    return Network(Graph(tuple(nodes.values()), end), tensors)


def _alone(node: Node) -> Node:
    """The node with tensors of its own."""
    attributes = tuple((name, value) for name, value in node.attrs if name != "shares")
    return Node(node.id, node.op, node.inputs, attributes)
