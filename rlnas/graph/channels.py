"""Which channel dimensions must change together.

A *cell* is a run of channels that stays whole wherever it goes; an axis of channels is a row of cells, each channel
filling ``block`` places (more than one after a flatten). Cells made by the same layer, or tied through
residual adds, concatenations and grouped convolutions, form a *group*: growing or pruning changes the lengths of cells,
and every tensor follows from its node's row of cells.

References:
    Fang et al., DepGraph: Towards Any Structural Pruning, CVPR 2023, arXiv:2301.12900.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from rlnas.graph.cells import Axis
from rlnas.graph.follow import Follower

if TYPE_CHECKING:
    from rlnas.graph.graph import Graph


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that must change together.

    Attributes:
        producers: Layers that make them, in canonical order; the first is the group's anchor.
        readers: Layers that mix all of them, or all of a block, in canonical order.
        cells: The group's cells.
        size: Channels in all cells.
        parts: For each grouped convolution on the group, its blocks as tuples of cells; they must stay equally long.
        pooled: Runs of cells over which a normalization takes statistics: there channels can only be replicated all
            equally often.
        fixed: True if the number is not ours to change: it is the network's input or output, an op depends on it of
            which no more is known, or heads of attention are made of them, which operators of their own change.
    """

    producers: tuple[str, ...]
    readers: tuple[str, ...]
    cells: tuple[int, ...]
    size: int
    parts: tuple[tuple[tuple[int, ...], ...], ...]
    pooled: tuple[tuple[int, ...], ...]
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
        axes: For each node a row of cells for each axis of its value; None for axes that are not of channels, or that
            nothing may change.
        rows: For each node the rows that axes of its tensors run over, by their names in `Param.axes`; what attention
            reads as ``"query"``, ``"key"`` and ``"value"``; and as ``"before"`` what a slice leaves out in front.
        groups: All groups that some layer makes, in canonical order of their anchors.
        frozen: Cells that nothing may change.
    """

    lengths: Mapping[int, int]
    axes: Mapping[str, tuple[Axis | None, ...]]
    rows: Mapping[str, Mapping[str, Axis]]
    groups: tuple[ChannelGroup, ...]
    frozen: frozenset[int]

    def __iter__(self) -> Iterator[ChannelGroup]:
        return iter(self.groups)

    def __len__(self) -> int:
        return len(self.groups)

    def of(self, anchor: str) -> ChannelGroup | None:
        """The group that a layer's output belongs to and names."""
        return self._by_anchor.get(anchor)

    def touched_by(self, cells: Iterable[int]) -> set[str]:
        """Nodes whose values, or what is left out in front of them, have channels of some cells."""
        return {id for cell in cells for id in self._places.get(cell, ())}

    @cached_property
    def _places(self) -> dict[int, list[str]]:
        found: dict[int, list[str]] = {}
        for id, axes in self.axes.items():
            before = self.rows[id].get("before", ())
            for cell in {cell for row in (*axes, before) if row for cell, _ in row}:
                found.setdefault(cell, []).append(id)
        return found

    @cached_property
    def _by_anchor(self) -> dict[str, ChannelGroup]:
        return {group.anchor: group for group in self.groups}


def find_channels(graph: Graph) -> Channels:
    """Follow every channel through the graph."""
    found = Follower(graph)
    cells, resolve = found.cells, found.cells.resolve
    axes = {id: tuple([resolve(row) if row else None for row in rows]) for id, rows in found.axes.items()}
    rows = {id: {name: resolve(row) for name, row in named.items()} for id, named in found.rows.items()}
    parts = [tuple([_cells(resolve(part)) for part in partition]) for partition in found.parts]
    pooled = [_cells(resolve(row)) for row in found.pooled]
    makers = {id: _cells(rows[id]["out"]) for id in graph.order if graph.facts[id].flow.kind == "layer"}

    root = _Joined()
    for together in (*makers.values(), *pooled):
        root.join(together)
    for partition in parts:
        root.join([cell for part in partition for cell in part])
    frozen = frozenset([cell for row in found.frozen for cell in _cells(resolve(row))])
    fixed = {root.of(cell) for cell in (*frozen, *[c for row in found.attended for c in _cells(resolve(row))])}

    members: dict[int, list[str]] = {}
    readers: dict[int, list[str]] = {}
    own: dict[int, dict[int, None]] = {}
    for id in graph.order:
        if id in makers and graph.node(id).op != "parameter":
            members.setdefault(root.of(makers[id][0]), []).append(id)
        for name, row in rows[id].items():
            for cell in _cells(row):
                own.setdefault(root.of(cell), {})[cell] = None
                if name == "in":
                    ids = readers.setdefault(root.of(cell), [])
                    if not ids or ids[-1] != id:
                        ids.append(id)
    groups = tuple(
        [
            ChannelGroup(
                producers=tuple(producers),
                readers=tuple(readers.get(group, ())),
                cells=tuple(own[group]),
                size=sum([cells.lengths[cell] for cell in own[group]]),
                parts=tuple(dict.fromkeys(p for p in parts if root.of(p[0][0]) == group)),
                pooled=tuple(dict.fromkeys(p for p in pooled if root.of(p[0]) == group)),
                fixed=group in fixed,
            )
            for group, producers in members.items()
        ]
    )
    used = sorted({cell for rows in axes.values() for row in rows if row for cell, _ in row})
    return Channels({cell: cells.lengths[cell] for cell in used}, axes, rows, groups, frozen)


def _cells(row: Axis) -> tuple[int, ...]:
    return tuple(dict.fromkeys([cell for cell, _ in row]))


class _Joined:
    """Sets of cells, each with one cell that stands for it."""

    def __init__(self) -> None:
        self._parent: dict[int, int] = {}

    def of(self, cell: int) -> int:
        parent = self._parent
        while parent.setdefault(cell, cell) != cell:
            cell = parent[cell]
        return cell

    def join(self, cells: Iterable[int]) -> None:
        first, *rest = cells
        for cell in rest:
            self._parent[self.of(cell)] = self.of(first)
