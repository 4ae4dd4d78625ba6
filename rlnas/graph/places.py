"""Along which axis the channels of each value lie, so that a layer inserted there is of the right kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rlnas.graph.follow import aligned

if TYPE_CHECKING:
    from rlnas.graph.graph import Graph
    from rlnas.graph.node import Node


def find_channel_axes(graph: Graph) -> Mapping[str, int | None]:
    """Axis of the channels of each node's value: 0 in maps, the last one in tokens; None where nothing tells."""
    axes: dict[str, int | None] = {}
    for node in graph.sorted_nodes:
        axes[node.id] = _axis(graph, node, [axes[i] for i in node.inputs])
    return axes


def _axis(graph: Graph, node: Node, inputs: list[int | None]) -> int | None:
    flow, shape = graph.facts[node.id].flow, graph.shapes[node.id]
    first = inputs[0] if inputs else None
    match flow.kind:
        case "layer" | "channelwise":
            return flow.axis
        case "attention":
            return 1
        case "elementwise":
            whole = [a for a, i in zip(inputs, node.inputs, strict=True) if len(graph.shapes[i]) == len(shape)]
            return next((a for a in whole if a is not None), None)
        case "concat" | "slice":
            return first
        case "permute":
            return None if first is None else flow.axes.index(first)
        case "along":
            if first is None or flow.kept:
                return first
            return None if first in flow.axes else first - sum(a < first for a in flow.axes)
        case "reshape":
            runs = aligned(graph.shapes[node.inputs[0]], shape, () if first is None else (first,))
            return next((new[0] for old, new in runs if first in old and len(new) == 1), None)
    return None
