"""The order in which a graph is written down and run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlnas.graph.ops import OPS

if TYPE_CHECKING:
    from rlnas.graph.graph import Graph


def reading_order(graph: Graph) -> list[str]:
    """Node ids in the order in which a person would write them: depth first, so that branches stay together.

    Branches come in the order in which they are read; where that does not matter, the longest first. The canonical
    order, from which it derives, is by depth and would jump from branch to branch.
    """
    depths, place = graph.depths, {id: i for i, id in enumerate(graph.order)}
    done: set[str] = set()
    order: list[str] = []
    stack = [(graph.output, False)]
    while stack:
        id, ready = stack.pop()
        if id in done:
            continue
        if ready:
            done.add(id)
            order.append(id)
            continue
        stack.append((id, True))
        node = graph.node(id)
        if len(node.inputs) == 1:
            stack.append((node.inputs[0], False))
            continue
        inputs = list(dict.fromkeys(node.inputs))
        if OPS[node.op].commutative:
            inputs.sort(key=lambda i: (-depths[i], place[i]))
        stack += [(i, False) for i in reversed(inputs)]
    return order
