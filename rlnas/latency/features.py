"""What a latency predictor sees of an architecture: amounts of work, by kinds of operations."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Final

from rlnas.graph import OPS, Graph, Node
from rlnas.graph.ops import is_depthwise

LANES: Final = 16
"""Channels are computed in blocks of so many."""
THIN: Final = 8
"""Convolutions that read fewer channels, such as those of an image, are computed in another way."""
FREE: Final = frozenset({"input", "parameter", "identity", "dropout"})

Features = dict[str, float]


def features(graph: Graph, *, batch_size: int = 1) -> Features:
    """Sums over a network's operations, by kind of operation.

    Each kind has its number of operations (``count``), the values that they read (``read``) and write (``written``),
    and those of their parameters (``params``). Convolutions and linear layers also have their multiply-accumulates as
    they are (``macs``), with the channels that they make rounded up to whole blocks (``blocks``), with those that they
    read rounded up too (``full_blocks``), and the number of loops along a row of a map (``rows``). All amounts but the
    first are in thousands.

    Args:
        batch_size: Samples in one pass.
    """
    found: defaultdict[str, float] = defaultdict(float)
    for node in graph.sorted_nodes:
        if node.op not in FREE:
            kind = _kind(graph, node)
            for name, amount in _amounts(graph, node, batch_size).items():
                found[f"{kind}.{name}"] += amount
    return dict(found)


def _amounts(graph: Graph, node: Node, batch_size: int) -> Features:
    n_params, macs = graph.node_costs[node.id]
    found = {"count": 1.0}
    if not OPS[node.op].view:
        found["read"] = batch_size * sum(math.prod(shape) for shape in graph.input_shapes(node.id)) / 1e3
        found["written"] = batch_size * math.prod(graph.shapes[node.id]) / 1e3
    if n_params:
        found["params"] = n_params / 1e3
    if macs:
        read, made = _channels(graph, node)
        work = batch_size * macs / 1e3
        found["macs"] = work
        found["blocks"] = work * _rounded(made)
        found["full_blocks"] = work * _rounded(made) * _rounded(read)
        found["rows"] = work * _rounded(made) / LANES / graph.shapes[node.id][-1]
    return found


def _kind(graph: Graph, node: Node) -> str:
    """Operations that cost alike: convolutions by their form, the rest by name."""
    if OPS[node.op].family != "conv":
        return node.op
    form = f"{node.op}_{'x'.join(map(str, node['kernel_size']))}"
    if is_depthwise(node, graph.input_shapes(node.id)):
        return f"{form}_depthwise"
    return f"{form}_thin" if _channels(graph, node)[0] < THIN else form


def _channels(graph: Graph, node: Node) -> tuple[int, int]:
    """Channels that each output of a convolution or linear layer reads, and how many there are."""
    family, (shape, *_) = OPS[node.op].family, graph.input_shapes(node.id)
    if family == "conv":
        groups: int = node["groups"]
        return max(shape[0] // groups, 1), max(graph.shapes[node.id][0] // groups, 1)
    return shape[-1], graph.shapes[node.id][-1]


def _rounded(channels: int) -> float:
    """How many times more channels whole blocks hold."""
    return math.ceil(channels / LANES) * LANES / channels
