"""Sizes of what sliding windows make."""

from __future__ import annotations

from rlnas.errors import GraphError
from rlnas.graph.node import Node


def window(node: Node, size: int, axis: int, *, ceil: bool = False) -> int:
    """Places of a node's window along one axis of a map, as PyTorch counts them.

    Raises:
        GraphError: If the window does not fit.
    """
    dilation: int = node["dilation"][axis] if any(name == "dilation" for name, _ in node.attrs) else 1
    padding: int = node["padding"][axis]
    stride: int = node["stride"][axis]
    span: int = dilation * (node["kernel_size"][axis] - 1) + 1
    free = size + 2 * padding - span
    out = (-(-free // stride) if ceil else free // stride) + 1
    if ceil and (out - 1) * stride >= size + padding:
        out -= 1
    if free < 0 or out < 1:
        raise GraphError(f"{node.op} {node.id}: a window of {span} does not fit into {size} + 2 x {padding}")
    return out
