"""Small edits from which operators are made; each gives a new graph and leaves the old one alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from rlnas.errors import GraphError
from rlnas.graph.cells import Axis
from rlnas.graph.channels import Channels
from rlnas.graph.facts import complete
from rlnas.graph.graph import Graph
from rlnas.graph.node import Node
from rlnas.graph.ops import OPS, is_depthwise

NOTHING: Mapping[str, Mapping[str, Any]] = MappingProxyType({})


class Names:
    """Fresh node ids, the same for the same graph: the op's short name and the next free number."""

    def __init__(self, graph: Graph) -> None:
        self._ids = list(graph.shapes)

    def new(self, prefix: str) -> str:
        """Next free id with that prefix."""
        start = len(prefix)
        used = [int(id[start:]) for id in self._ids if id.startswith(prefix) and id[start:].isdigit()]
        id = f"{prefix}{max(used, default=0) + 1}"
        self._ids.append(id)
        return id


def insert_after(graph: Graph, anchor: str, nodes: Iterable[Node], *, output: str) -> Graph:
    """Add nodes that read ``anchor`` and let ``output`` take its place for all that read it before."""
    edited: list[Node] = []
    for node in graph.sorted_nodes:
        edited.append(_reread(node, anchor, output))
        if node.id == anchor:
            edited += map(complete, nodes)
    return Graph(tuple(edited), output if graph.output == anchor else graph.output)


def replace_node(graph: Graph, node: Node) -> Graph:
    """Put a node in the place of the one with its id."""
    return Graph(tuple([node if old.id == node.id else old for old in graph.sorted_nodes]), graph.output)


def bypass(graph: Graph, id: str, source: str) -> Graph:
    """Let everything that reads ``id`` read ``source``, and drop what nothing reads any more."""
    output = source if graph.output == id else graph.output
    return Graph(tuple(alive([_reread(node, id, source) for node in graph.sorted_nodes], output)), output)


def alive(nodes: Iterable[Node], output: str) -> list[Node]:
    """Those of some nodes in topological order that the output depends on."""
    read, kept = {output}, []
    for node in reversed(list(nodes)):
        if node.id in read:
            read.update(node.inputs)
            kept.append(node)
    return kept[::-1]


def _reread(node: Node, old: str, new: str) -> Node:
    if old not in node.inputs:
        return node
    return node.replace(inputs=tuple([new if i == old else i for i in node.inputs]))


def resize(
    graph: Graph,
    channels: Channels,
    lengths: Mapping[int, int],
    *,
    changed: Mapping[str, Mapping[str, Any]] = NOTHING,
) -> Graph:
    """Give cells other lengths; every layer that makes or passes their channels follows.

    Args:
        channels: The graph's channels.
        lengths: New length of each cell that changes.
        changed: By node id, attributes that change beside those that follow.

    Raises:
        GraphError: If a convolution's groups no longer divide its channels.
    """
    nodes = [node.replace(**changed[node.id]) if node.id in changed else node for node in graph.sorted_nodes]
    touched = channels.touched_by(lengths)
    return Graph(
        tuple([resized_node(node, graph, channels, lengths) if node.id in touched else node for node in nodes]),
        graph.output,
    )


def resized_node(node: Node, graph: Graph, channels: Channels, lengths: Mapping[int, int]) -> Node:
    """A node whose attributes follow new lengths of cells.

    Raises:
        GraphError: If nothing would be left of what it makes.
    """
    old = graph.shapes[node.id]
    new = tuple([_places(row, channels, lengths, size) for row, size in zip(channels.axes[node.id], old, strict=True)])
    if min(new, default=1) < 1:
        raise GraphError(f"{node.op} {node.id} would be left without channels")
    before = channels.rows[node.id].get("before")
    if before is not None:
        start = _places(before, channels, lengths, 0)
        node = node.replace(start=start, stop=start + node["stop"] - node["start"])
    if new == old:
        return node
    # A convolution that passes each channel on by itself has a group for each.
    single = is_depthwise(node, graph.input_shapes(node.id))
    return OPS[node.op].resized(node.replace(groups=new[0]) if single else node, old, new)


def _places(row: Axis | None, channels: Channels, lengths: Mapping[int, int], size: int) -> int:
    """Places that a row fills with the new lengths."""
    if row is None or not any([cell in lengths for cell, _ in row]):
        return size if row is None or size else sum([channels.lengths[cell] * block for cell, block in row])
    return sum([lengths.get(cell, channels.lengths[cell]) * block for cell, block in row])
