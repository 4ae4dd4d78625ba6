"""Which channel dimensions must change together.

A *cell* is a run of channels that stays whole wherever it goes; the channel axis of every node is a row of cells,
each channel filling ``block`` entries (more than one after a flatten). Cells made by the same layer, or tied through
residual adds, concatenations and grouped convolutions, form a *group*: growing or pruning changes the lengths of cells,
and every tensor follows from its node's row of cells.

References:
    Fang et al., DepGraph: Towards Any Structural Pruning, CVPR 2023, arXiv:2301.12900.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rlnas.graph.graph import Graph

Axis = tuple[tuple[int, int], ...]
"""Row of (cell, block): the channels of one node, in order."""


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that must change together.

    Attributes:
        producers: Layers that make them, in canonical order; the first is the group's anchor.
        readers: Dense or grouped layers that read them, in canonical order.
        cells: The group's cells.
        size: Channels in all cells.
        parts: For each grouped convolution on the group, its blocks as tuples of cells; they must stay equally long.
        fixed: True if the number is not ours to change: the network's input or output.
    """

    producers: tuple[str, ...]
    readers: tuple[str, ...]
    cells: tuple[int, ...]
    size: int
    parts: tuple[tuple[tuple[int, ...], ...], ...]
    fixed: bool

    @property
    def anchor(self) -> str:
        """The layer that names the group."""
        return self.producers[0]


@dataclass(frozen=True)
class Channels:
    """Result of `find_channels`; iterating gives the groups.

    Attributes:
        lengths: Channels in each cell.
        axes: Row of cells of each node's output.
        groups: All groups that some layer makes, in canonical order of their anchors.
    """

    lengths: Mapping[int, int]
    axes: Mapping[str, Axis]
    groups: tuple[ChannelGroup, ...]

    def __iter__(self) -> Iterator[ChannelGroup]:
        return iter(self.groups)

    def __len__(self) -> int:
        return len(self.groups)

    def of(self, anchor: str) -> ChannelGroup | None:
        """The group that a layer's output belongs to and names."""
        return self._by_anchor.get(anchor)

    @cached_property
    def _by_anchor(self) -> dict[str, ChannelGroup]:
        return {group.anchor: group for group in self.groups}


class _Cells:
    """Cells that can be split and identified with each other; old numbers stay valid through `resolve`."""

    def __init__(self) -> None:
        self.lengths: list[int] = []
        self.forward: dict[int, tuple[int, ...]] = {}

    def new(self, length: int) -> int:
        self.lengths.append(length)
        return len(self.lengths) - 1

    def resolve(self, axis: Axis) -> Axis:
        row: list[tuple[int, int]] = []
        for cell, block in axis:
            if cell in self.forward:
                row.extend(self.resolve(tuple((part, block) for part in self.forward[cell])))
            else:
                row.append((cell, block))
        return tuple(row)

    def split(self, cell: int, at: int) -> None:
        self.forward[cell] = (self.new(at), self.new(self.lengths[cell] - at))

    def cut(self, axis: Axis, positions: set[int]) -> None:
        """Make every position (in channels) a border between cells."""
        while True:
            start = 0
            for cell, _ in self.resolve(axis):
                inside = [p - start for p in positions if start < p < start + self.lengths[cell]]
                if inside:
                    self.split(cell, min(inside))
                    break
                start += self.lengths[cell]
            else:
                return

    def unify(self, left: Axis, right: Axis) -> bool:
        """Identify two rows channel by channel; False if their blocks differ."""
        while True:
            a, b = self.resolve(left), self.resolve(right)
            if a == b:
                return True
            (cell_a, block_a), (cell_b, block_b) = next(pair for pair in zip(a, b, strict=False) if pair[0] != pair[1])
            if block_a != block_b:
                return False
            length_a, length_b = self.lengths[cell_a], self.lengths[cell_b]
            if length_a == length_b:
                self.forward[cell_b] = (cell_a,)
            elif length_a > length_b:
                self.split(cell_a, length_b)
            else:
                self.split(cell_b, length_a)


def find_channels(graph: Graph) -> Channels:
    """Follow every channel through the graph."""
    cells = _Cells()
    axes: dict[str, Axis] = {}
    fixed: list[Axis] = []
    parts: list[list[Axis]] = []
    for id in graph.order:
        node = graph.node(id)
        length, rule = graph.shapes[id][0], graph.facts[id].channels
        rows = [axes[i] for i in node.inputs]
        if rule in ("fixed", "fresh", "opaque"):
            axes[id] = ((cells.new(length), 1),)
            if rule != "fresh":
                fixed.extend([axes[id], *rows])
        elif rule == "grouped":
            axes[id] = tuple((cells.new(length // node["groups"]), 1) for _ in range(node["groups"]))
            parts.append([((cell, 1),) for cell, _ in axes[id]])
            inside = _split_evenly(cells, rows[0], node["groups"])
            parts.append(inside) if inside else fixed.extend([axes[id], *rows])
        elif rule == "same":
            axes[id] = rows[0]
            for other in rows[1:]:
                if not cells.unify(rows[0], other):
                    fixed.extend(rows)
        elif rule == "concat":
            axes[id] = tuple(entry for row in rows for entry in row)
        else:
            assert rule == "flatten"
            area = length // graph.shapes[node.inputs[0]][0]
            axes[id] = tuple((cell, block * area) for cell, block in rows[0])
    fixed.append(axes[graph.output])
    resolved = {id: cells.resolve(axis) for id, axis in axes.items()}
    return _group(graph, cells, resolved, fixed, parts)


def _split_evenly(cells: _Cells, axis: Axis, n: int) -> list[Axis]:
    """Cut a row into n parts of equal length; nothing where blocks make that impossible."""
    row = cells.resolve(axis)
    if any(block != 1 for _, block in row):
        return []
    size = sum(cells.lengths[cell] for cell, _ in row) // n
    cells.cut(axis, {size * i for i in range(1, n)})
    found: list[list[tuple[int, int]]] = [[] for _ in range(n)]
    start = 0
    for cell, block in cells.resolve(axis):
        found[start // size].append((cell, block))
        start += cells.lengths[cell]
    return [tuple(part) for part in found]


def _group(graph: Graph, cells: _Cells, axes: dict[str, Axis], fixed: list[Axis], parts: list[list[Axis]]) -> Channels:
    parent: dict[int, int] = {}

    def find(cell: int) -> int:
        parent.setdefault(cell, cell)
        while parent[cell] != cell:
            cell = parent[cell]
        return cell

    def join(row: list[int]) -> None:
        for cell in row[1:]:
            parent[find(cell)] = find(row[0])

    makers: dict[str, list[int]] = {}
    for id in graph.order:
        if graph.facts[id].channels in ("fresh", "grouped", "fixed", "opaque"):
            makers[id] = [cell for cell, _ in axes[id]]
            join(makers[id])
    resolved_parts = [tuple(tuple(c for c, _ in cells.resolve(p)) for p in partition) for partition in parts]
    for partition in resolved_parts:
        join([cell for part in partition for cell in part])
    frozen = {find(cell) for row in fixed for cell, _ in cells.resolve(row)}

    members: dict[int, list[str]] = {}
    for id, row in makers.items():
        if graph.node(id).op != "input":
            members.setdefault(find(row[0]), []).append(id)
    readers: dict[int, list[str]] = {}
    for id in graph.order:
        node = graph.node(id)
        if any("in" in param.axes for param in graph.params(id).values()):
            for root in dict.fromkeys(find(cell) for cell, _ in axes[node.inputs[0]]):
                readers.setdefault(root, []).append(id)
    groups = []
    for root, producers in members.items():
        own = tuple(dict.fromkeys(c for id in graph.order for c, _ in axes[id] if find(c) == root))
        groups.append(
            ChannelGroup(
                producers=tuple(producers),
                readers=tuple(readers.get(root, ())),
                cells=own,
                size=sum(cells.lengths[cell] for cell in own),
                parts=tuple(dict.fromkeys(p for p in resolved_parts if find(p[0][0]) == root)),
                fixed=root in frozen,
            )
        )
    used = {cell for axis in axes.values() for cell, _ in axis}
    return Channels({cell: cells.lengths[cell] for cell in sorted(used)}, axes, tuple(groups))
