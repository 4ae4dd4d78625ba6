"""Small edits from which operators are made; each gives a new graph and leaves the old one alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rlnas.errors import GraphError
from rlnas.graph.channels import Channels
from rlnas.graph.graph import Graph, complete
from rlnas.graph.node import Node
from rlnas.graph.ops import OPS, is_depthwise


class Names:
    """Fresh node ids, the same for the same graph: the op's short name and the next free number."""

    def __init__(self, graph: Graph) -> None:
        self._taken = {node.id for node in graph.nodes}

    def new(self, prefix: str) -> str:
        """Next free id with that prefix."""
        used = [int(id[len(prefix) :]) for id in self._taken if id.startswith(prefix) and id[len(prefix) :].isdigit()]
        id = f"{prefix}{max(used, default=0) + 1}"
        self._taken.add(id)
        return id


def insert_after(graph: Graph, anchor: str, nodes: Iterable[Node], *, output: str) -> Graph:
    """Add nodes that read ``anchor`` and let ``output`` take its place for all that read it before."""
    added = tuple(complete(node) for node in nodes)
    moved = tuple(
        node.replace(inputs=tuple(output if i == anchor else i for i in node.inputs)) if anchor in node.inputs else node
        for node in graph.nodes
    )
    return Graph(moved + added, output if graph.output == anchor else graph.output)


def replace_node(graph: Graph, node: Node) -> Graph:
    """Put a node in the place of the one with its id."""
    return Graph(tuple(node if old.id == node.id else old for old in graph.nodes), graph.output)


def bypass(graph: Graph, id: str, source: str) -> Graph:
    """Let everything that reads ``id`` read ``source``, and drop what nothing reads any more."""
    moved = tuple(
        node.replace(inputs=tuple(source if i == id else i for i in node.inputs)) if id in node.inputs else node
        for node in graph.nodes
    )
    output = source if graph.output == id else graph.output
    by_id = {node.id: node for node in moved}
    kept, stack = {node.id for node in moved if node.op == "input"}, [output]
    while stack:
        current = stack.pop()
        if current not in kept or current == output:
            kept.add(current)
            stack += [i for i in by_id[current].inputs if i not in kept]
    return Graph(tuple(node for node in moved if node.id in kept), output)


def resize(graph: Graph, channels: Channels, lengths: Mapping[int, int]) -> Graph:
    """Give cells other lengths; every layer that makes or passes their channels follows.

    Args:
        channels: The graph's channels.
        lengths: New length of each cell that changes.

    Raises:
        GraphError: If a convolution's groups no longer divide its channels.
    """
    nodes: list[Node] = []
    for node in graph.nodes:
        row = channels.axes[node.id]
        rule = OPS[node.op].channels(node, graph.input_shapes(node.id))
        if any(name == "out_channels" for name, _ in node.attrs) and any(cell in lengths for cell, _ in row):
            size = sum(lengths.get(cell, channels.lengths[cell]) * block for cell, block in row)
            if size < 1:
                raise GraphError(f"{node.op} {node.id} would be left without channels")
            node = node.replace(out_channels=size)
            if rule == "same" and is_depthwise(graph.node(node.id), graph.input_shapes(node.id)):
                node = node.replace(groups=size)
        nodes.append(node)
    return Graph(tuple(nodes), graph.output)
