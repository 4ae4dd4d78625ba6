"""Follow every row of channels through a graph, op by op."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

from rlnas.graph.cells import Axis, Cells
from rlnas.graph.flow import Flow, Kind
from rlnas.graph.node import Node, Shape

if TYPE_CHECKING:
    from rlnas.graph.graph import Graph

Rows = list[Axis | None]
"""A row of cells, or nothing, for each axis of a value."""


class Follower:
    """What is known of a graph's rows after all its nodes were visited.

    Attributes:
        cells: All cells.
        axes: Rows of each node's value.
        rows: Rows by the names that `Param.axes` gives them; ``"before"`` is what a slice leaves out in front, and
            ``"query"``, ``"key"`` and ``"value"`` are what attention reads.
        frozen: Rows that must keep their sizes.
        parts: Partitions of rows into parts that must stay equally long.
        pooled: Rows over whose channels statistics are taken.
        attended: Rows that an attention reads; they change by operators of attention only.
    """

    def __init__(self, graph: Graph) -> None:
        self.cells = Cells()
        self.axes: dict[str, Rows] = {}
        self.rows: dict[str, dict[str, Axis]] = {}
        self.frozen: list[Axis] = []
        self.parts: list[list[Axis]] = []
        self.pooled: list[Axis] = []
        self.attended: list[Axis] = []
        self._graph = graph
        for id in graph.order:
            node = graph.node(id)
            self.rows[id] = {}
            inputs = [self.axes[i] for i in node.inputs]
            self.axes[id] = _FOLLOW[graph.facts[id].flow.kind](self, node, graph.facts[id].flow, inputs)
        for row in self.axes[graph.output]:
            self._freeze([row])
        for id in graph.shared:
            self._freeze([*self.axes[id], self.rows[id].get("in")])

    def _freeze(self, rows: Iterable[Axis | None]) -> None:
        self.frozen += [row for row in rows if row]

    def _nothing(self, id: str) -> Rows:
        return [None] * len(self._graph.shapes[id])

    def _blocks(self, row: Axis, n: int) -> bool:
        """Ask that n parts of a row stay equally long; False if it cannot be cut into them."""
        if n == 1:
            return True
        parts = self.cells.evenly(row, n)
        if parts:
            self.parts.append(parts)
        return bool(parts)

    # -------------------------------------------------------------------------------------------- kinds of flow

    def frozen_op(self, node: Node, flow: Flow, inputs: list[Rows]) -> Rows:
        for rows in inputs:
            self._freeze(rows)
        return self._nothing(node.id)

    def layer(self, node: Node, flow: Flow, inputs: list[Rows]) -> Rows:
        made = self._nothing(node.id)
        read = None
        if inputs:
            axis = flow.axis if node.op != "embedding" else -1
            for i, row in enumerate(inputs[0]):
                if i == axis:
                    read = row
                elif flow.others:
                    made[i] = row
                else:
                    self._freeze([row])
        length = self._graph.shapes[node.id][flow.axis] // flow.blocks
        out = tuple([(self.cells.new(length), 1) for _ in range(flow.blocks)])
        if flow.blocks > 1:
            self.parts.append([(entry,) for entry in out])
            if read and not self._blocks(read, flow.blocks):
                self._freeze([out, read])
                read = None
        made[flow.axis] = out
        self.rows[node.id]["out"] = out
        if read:
            self.rows[node.id]["in"] = read
        return made

    def channelwise(self, node: Node, flow: Flow, inputs: list[Rows]) -> Rows:
        made = self._nothing(node.id)
        for i, row in enumerate(inputs[0]):
            if i == flow.axis or flow.others:
                made[i] = row
            else:
                self._freeze([row])
        row = made[flow.axis]
        if row:
            self.rows[node.id]["out"] = row
            if flow.pooled and self._blocks(row, flow.blocks):
                self.pooled.append(row)
            elif flow.pooled:
                self._freeze([row])
        return made

    def elementwise(self, node: Node, flow: Flow, inputs: list[Rows]) -> Rows:
        shape = self._graph.shapes[node.id]
        made: Rows = []
        for axis in range(-len(shape), 0):
            met: Rows = []
            for id, rows in zip(node.inputs, inputs, strict=True):
                if -axis > len(rows):
                    continue
                if self._graph.shapes[id][axis] == shape[axis]:
                    met.append(rows[axis])
                else:
                    self._freeze([rows[axis]])
            made.append(self._together(met))
        return made

    def _together(self, rows: Rows) -> Axis | None:
        """One row for values that meet place by place."""
        present = [row for row in rows if row]
        if len(present) < len(rows):
            self._freeze(present)
            return None
        for other in present[1:]:
            if not self.cells.unify(present[0], other):
                self._freeze(present)
                return None
        return present[0]

    def along(self, node: Node, flow: Flow, inputs: list[Rows]) -> Rows:
        made: Rows = []
        for i, row in enumerate(inputs[0]):
            if i not in flow.axes:
                made.append(row)
                continue
            self._freeze([row])
            if flow.kept:
                made.append(None)
        return made

    def concat(self, node: Node, flow: Flow, inputs: list[Rows]) -> Rows:
        made: Rows = []
        for axis in range(len(inputs[0])):
            met = [rows[axis] for rows in inputs]
            if axis != flow.axis:
                made.append(self._together(met))
            elif not any(met):
                made.append(None)
            else:
                made.append(tuple([entry for i, row in enumerate(met) for entry in row or self._fixed(node, i, axis)]))
        return made

    def _fixed(self, node: Node, position: int, axis: int) -> Axis:
        """A row for channels that must stay as they are."""
        row = ((self.cells.new(self._graph.shapes[node.inputs[position]][axis]), 1),)
        self.frozen.append(row)
        return row

    def slice(self, node: Node, flow: Flow, inputs: list[Rows]) -> Rows:
        made = list(inputs[0])
        row = made[flow.axis]
        if row:
            start, stop = node["start"], node["stop"]
            if node["step"] != 1 or not self.cells.cut(row, {start, stop}):
                self._freeze([row])
                made[flow.axis] = None
            else:
                made[flow.axis] = self.cells.between(row, start, stop)
                self.rows[node.id]["before"] = self.cells.between(row, 0, start)
        return made

    def permute(self, node: Node, flow: Flow, inputs: list[Rows]) -> Rows:
        return [inputs[0][d] for d in flow.axes]

    def reshape(self, node: Node, flow: Flow, inputs: list[Rows]) -> Rows:
        made = self._nothing(node.id)
        before, after = self._graph.shapes[node.inputs[0]], self._graph.shapes[node.id]
        tracked_axes = {i for i, row in enumerate(inputs[0]) if row}
        for old, new in aligned(before, after, tracked_axes):
            tracked = [i for i in old if inputs[0][i]]
            if len(tracked) != 1 or len(new) != 1:
                self._freeze([inputs[0][i] for i in tracked])
                continue
            row = inputs[0][tracked[0]]
            assert row is not None
            inner = math.prod([before[i] for i in old if i > tracked[0]])
            outer = math.prod([before[i] for i in old if i < tracked[0]])
            made[new[0]] = tuple([(cell, block * inner) for cell, block in row]) * outer
        return made

    def matmul(self, node: Node, flow: Flow, inputs: list[Rows]) -> Rows:
        made = self._nothing(node.id)
        a, b = inputs
        made[-2], made[-1] = a[-2], b[-1]
        self._freeze([*a[:-2], a[-1], *b[:-1]])
        return made

    def attention(self, node: Node, flow: Flow, inputs: list[Rows]) -> Rows:
        query, key, value = (rows[1] for rows in inputs)
        heads, kv_heads = node["heads"], node["kv_heads"]
        made = self._nothing(node.id)
        for rows in inputs:
            self._freeze([rows[0]])
        if query and key and self._heads(query, heads) and self._heads(key, kv_heads):
            for q, k in self._pairs(query, key, heads, kv_heads):
                self.attended += [q, k]
            self.rows[node.id] |= {"query": query, "key": key}
        else:
            self._freeze([query, key])
        parts = self._heads(value, kv_heads) if value else []
        if value and parts:
            made[1] = tuple([entry for part in parts for _ in range(heads // kv_heads) for entry in part])
            self.rows[node.id]["value"] = value
            self.attended.append(value)
        else:
            self._freeze([value])
        return made

    def _heads(self, row: Axis, n: int) -> list[Axis]:
        parts = self.cells.evenly(row, n)
        if len(parts) > 1:
            self.parts.append(parts)
        return parts

    def _pairs(self, query: Axis, key: Axis, heads: int, kv_heads: int) -> list[tuple[Axis, Axis]]:
        q, k = self.cells.evenly(query, heads), self.cells.evenly(key, kv_heads)
        return [(part, k[i * kv_heads // heads]) for i, part in enumerate(q)]


def aligned(before: Shape, after: Shape, kept: Collection[int] = ()) -> list[tuple[list[int], list[int]]]:
    """Smallest runs of axes of two shapes that hold the same places; axes of size 1 are left out.

    Args:
        kept: Axes of the first shape that are not left out.
    """
    runs = []
    i = j = 0
    while i < len(before) or j < len(after):
        old: list[int] = []
        new: list[int] = []
        a = b = 1
        while not old or not new or a != b:
            if i < len(before) and (a <= b or j >= len(after)):
                a *= before[i]
                old += [i] if before[i] != 1 or i in kept else []
                i += 1
            elif j < len(after):
                b *= after[j]
                new += [j] if after[j] != 1 else []
                j += 1
            else:
                break
        if old or new:
            runs.append((old, new))
    return runs


_FOLLOW: dict[Kind, Callable[[Follower, Node, Flow, list[Rows]], Rows]] = {
    "frozen": Follower.frozen_op,
    "layer": Follower.layer,
    "channelwise": Follower.channelwise,
    "elementwise": Follower.elementwise,
    "along": Follower.along,
    "concat": Follower.concat,
    "slice": Follower.slice,
    "reshape": Follower.reshape,
    "permute": Follower.permute,
    "matmul": Follower.matmul,
    "attention": Follower.attention,
}
