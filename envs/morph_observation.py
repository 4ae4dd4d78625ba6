"""From a graph to the arrays that a policy sees; `rlnas.layout` says what each entry means."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlnas.envs.protocols import Observation
from rlnas.graph import OPS, Graph
from rlnas.graph.ops import is_depthwise
from rlnas.layout import CONTEXT_FEATURES, NODE_FEATURES, OP_FAMILIES, Layout
from rlnas.spaces import Limits

Array = NDArray[np.float32]


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


@lru_cache(maxsize=4096)
def _nodes(graph: Graph, slots: int) -> tuple[Array, Array]:
    table = np.zeros((slots, len(NODE_FEATURES)), dtype=np.float32)
    place = {id: slot for slot, id in enumerate(graph.order)}
    for id, slot in place.items():
        values = _features(graph, id, place, slots)
        table[slot] = [values.get(name, 0.0) for name in NODE_FEATURES]
    mask = np.zeros(slots, dtype=np.float32)
    mask[: len(place)] = 1.0
    return np.clip(table, -1.0, 1.0).reshape(-1), mask


def _features(graph: Graph, id: str, place: dict[str, int], slots: int) -> dict[str, float]:
    node, shape = graph.node(id), graph.shapes[id]
    family = OPS[node.op].family
    if family == "conv" and is_depthwise(node, graph.input_shapes(id)):
        family = "depthwise"
    assert family in OP_FAMILIES
    attrs: dict[str, Any] = dict(node.attrs)
    params, macs = graph.node_costs[id]
    channels = shape[graph.channel_axes[id] or 0] if shape else 1
    values = {
        f"is_{family}": 1.0,
        "log_channels": math.log2(channels) / 12,
        "log_area": math.log2(math.prod(shape) // channels) / 16,
        "kernel": max(attrs["kernel_size"]) / 9 if "kernel_size" in attrs else 0.0,
        "stride": max(attrs["stride"]) / 4 if "stride" in attrs else 0.0,
        "log_n_params": math.log2(1 + params) / 24,
        "log_macs": math.log2(1 + macs) / 32,
        "position": place[id] / max(1, len(place) - 1),
        "n_consumers": len(graph.consumers[id]) / 4,
        "is_output": float(id == graph.output),
    }
    for k, source in enumerate(node.inputs[:2]):
        values[f"input_{k}_distance"] = (place[id] - place[source]) / slots
    return values
