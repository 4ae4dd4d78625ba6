"""From a graph to the arrays that a policy sees; `rlnas.layout` says what each entry means."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rlnas.envs.protocols import Observation
from rlnas.graph import OPS, Graph, Node
from rlnas.graph.facts import Facts
from rlnas.graph.node import Shape
from rlnas.graph.ops import is_depthwise
from rlnas.layout import CONTEXT_FEATURES, NODE_FEATURES, OP_FAMILIES, Layout
from rlnas.spaces import Limits

Array = NDArray[np.float32]

KINDS: Final = 10_000
"""Kinds of nodes whose rows are remembered."""


def observe(
    graph: Graph, *, start: Graph, layout: Layout, limits: Limits, steps_left: float, legal: tuple[int, ...]
) -> Observation:
    """A fresh observation.

    Args:
        steps_left: Share of the episode's steps that are left, in [0, 1].
        legal: Numbers of the legal actions.
    """
    nodes, node_mask = _nodes(graph, layout.slots)
    mask = np.zeros(layout.n_actions, dtype=np.int8)
    mask[list(legal)] = 1
    return {
        "nodes": nodes.copy(),
        "node_mask": node_mask.copy(),
        "context": _context(graph, start, layout, limits, steps_left),
        "action_mask": mask,
    }


def _context(graph: Graph, start: Graph, layout: Layout, limits: Limits, steps_left: float) -> Array:
    values = {
        "steps_left": steps_left,
        "log_macs": math.log2((graph.macs + 1) / (start.macs + 1)) / 8,
        "log_n_params": math.log2((graph.n_params + 1) / (start.n_params + 1)) / 8,
        "log_peak_memory": math.log2((graph.peak_memory_bytes + 1) / (start.peak_memory_bytes + 1)) / 8,
        "headroom": 1.0 - limits.excess(graph),
        "nodes": len(graph) / layout.slots,
    }
    return np.clip(np.array([values[name] for name in CONTEXT_FEATURES], dtype=np.float32), -1.0, 1.0)


@lru_cache(maxsize=512)
def _nodes(graph: Graph, slots: int) -> tuple[Array, Array]:
    order, facts, axes = graph.order, graph.facts, graph.channel_axes
    place = {name: slot for slot, name in enumerate(order)}
    nodes, n = [graph.node(name) for name in order], len(order)
    table = np.zeros((slots, len(NODE_FEATURES)), dtype=np.float32)
    table[:n] = ROWS.of([(facts[node.id], axes[node.id], node, graph) for node in nodes])
    table[:n, POSITION] = np.arange(n) / max(1, n - 1)
    table[:n, CONSUMERS] = np.bincount([place[i] for node in nodes for i in node.inputs], minlength=n) / 4
    table[place[graph.output], OUTPUT] = 1.0
    for k, column in enumerate(DISTANCES):
        far = [slot - place[node.inputs[k]] if len(node.inputs) > k else 0 for slot, node in enumerate(nodes)]
        table[:n, column] = np.array(far) / slots
    mask = np.zeros(slots, dtype=np.float32)
    mask[:n] = 1.0
    return np.clip(table, -1.0, 1.0, out=table).reshape(-1), mask


POSITION, CONSUMERS, OUTPUT = map(NODE_FEATURES.index, ("position", "n_consumers", "is_output"))
DISTANCES: Final = tuple(NODE_FEATURES.index(f"input_{k}_distance") for k in range(2))


class _Rows:
    """What is seen of a node by itself: worked out once for each kind of node.

    Nodes of one op with the same attributes and input shapes share their facts, so that those tell the kind.
    """

    def __init__(self) -> None:
        self._clear()

    def of(self, wanted: Sequence[tuple[Facts, int | None, Node, Graph]]) -> Array:
        """A row for each (facts, axis of channels, node, its graph)."""
        if len(self._known) + len(wanted) > len(self._table):
            self._clear()
        rows = []
        for facts, axis, node, graph in wanted:
            key = (id(facts), axis)
            found = self._known.get(key)
            if found is None:
                found = self._known[key] = (facts, len(self._known))
                values = _features(node, graph.input_shapes(node.id), facts, axis)
                self._table[found[1]] = [values.get(name, 0.0) for name in NODE_FEATURES]
            rows.append(found[1])
        return self._table[rows]

    def _clear(self) -> None:
        self._known: dict[tuple[int, int | None], tuple[Facts, int]] = {}
        self._table = np.zeros((KINDS, len(NODE_FEATURES)), dtype=np.float32)


ROWS: Final = _Rows()


def _features(node: Node, input_shapes: tuple[Shape, ...], facts: Facts, axis: int | None) -> dict[str, float]:
    shape, family = facts.shape, OPS[node.op].family
    if family == "conv" and is_depthwise(node, input_shapes):
        family = "depthwise"
    assert family in OP_FAMILIES
    attrs: dict[str, Any] = dict(node.attrs)
    channels = shape[axis or 0] if shape else 1
    return {
        f"is_{family}": 1.0,
        "log_channels": math.log2(channels) / 12,
        "log_area": math.log2(math.prod(shape) // channels) / 16,
        "kernel": max(attrs["kernel_size"]) / 9 if "kernel_size" in attrs else 0.0,
        "stride": max(attrs["stride"]) / 4 if "stride" in attrs else 0.0,
        "log_n_params": math.log2(1 + facts.n_params) / 24,
        "log_macs": math.log2(1 + facts.macs) / 32,
    }
