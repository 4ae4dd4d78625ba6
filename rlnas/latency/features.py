"""What a latency predictor sees of an architecture: amounts of work, by kinds of operations."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Final

from rlnas.graph import OPS, Graph, Node
from rlnas.graph.ops import is_depthwise

LANES: Final = 16
"""Channels are computed in blocks of so many."""
FREE: Final = frozenset({"input", "parameter", "identity", "dropout"})

Features = dict[str, float]


def features(graph: Graph, *, batch_size: int = 1) -> Features:
    """Sums over a network's operations, by kind of operation.

    Each kind has its number of operations (``count``), the values that they read and write (``values``) and those of
    their parameters (``params``); convolutions and linear layers also their multiply-accumulates as they are
    (``macs``) and with channels rounded up to whole blocks (``blocks``). All amounts but the first are in thousands.

    Args:
        batch_size: Samples in one pass.
    """
    found: defaultdict[str, float] = defaultdict(float)
    for node in graph.sorted_nodes:
        if node.op in FREE:
            continue
        kind = _kind(graph, node)
        n_params, macs = graph.node_costs[node.id]
        moved = math.prod(graph.shapes[node.id]) + sum(math.prod(shape) for shape in graph.input_shapes(node.id))
        found[f"{kind}.count"] += 1
        if not OPS[node.op].view:
            found[f"{kind}.values"] += batch_size * moved / 1e3
        if n_params:
            found[f"{kind}.params"] += n_params / 1e3
        if macs:
            found[f"{kind}.macs"] += batch_size * macs / 1e3
            found[f"{kind}.blocks"] += batch_size * macs * _rounded(graph, node) / 1e3
    return dict(found)


def _kind(graph: Graph, node: Node) -> str:
    """Operations that cost alike: convolutions by their form, the rest by name."""
    if OPS[node.op].family != "conv":
        return node.op
    if is_depthwise(node, graph.input_shapes(node.id)):
        return f"{node.op}_depthwise"
    if set(node["kernel_size"]) == {1}:
        return f"{node.op}_pointwise"
    return node.op if max(node["stride"]) == 1 else f"{node.op}_strided"


def _rounded(graph: Graph, node: Node) -> float:
    """How many times more channels whole blocks hold, read and written."""
    family = OPS[node.op].family
    if family == "conv" and not is_depthwise(node, graph.input_shapes(node.id)):
        groups: int = node["groups"]
        return _blocks(graph.input_shapes(node.id)[0][0] // groups) * _blocks(node["out_channels"] // groups)
    if family == "linear":
        return _blocks(graph.input_shapes(node.id)[0][-1]) * _blocks(node["out_channels"])
    return 1.0


def _blocks(channels: int) -> float:
    return math.ceil(channels / LANES) * LANES / max(channels, 1)
