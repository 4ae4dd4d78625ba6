"""Canonical order and hash of a graph: equal for isomorphic graphs, whatever their node ids and history.

Colours are refined from both directions (a node's op, attributes and inputs; then its consumers) until they split no
further. Nodes still alike are told apart by trying each in turn and keeping the smallest certificate. Two leaves of
that search with one certificate give an automorphism, and of nodes that automorphisms exchange only one is tried, so
that many equal branches stay cheap.

References:
    McKay, Piperno, Practical graph isomorphism II, 2014, arXiv:1301.1493.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from rlnas.graph.facts import shared
from rlnas.graph.node import Value
from rlnas.graph.ops import OPS

if TYPE_CHECKING:
    from rlnas.graph.graph import Graph

Colours = list[str]

MEMO: Final = 20_000
"""Colours that are remembered."""


def _digest(*parts: object) -> str:
    return hashlib.blake2b(repr(parts).encode(), digest_size=12).hexdigest()


@lru_cache(maxsize=MEMO)
def _seed(op: str, attrs: tuple[tuple[str, Value], ...], alone: bool, last: bool) -> str:
    """Colour of a node by itself."""
    return _digest(op, [a for a in attrs if a[0] != "shares"], alone, last)


@lru_cache(maxsize=MEMO)
def _joined(seed: str, read: tuple[str, ...]) -> str:
    """Colour of a node and all that is before it."""
    return _digest(seed, list(read))


class Labeller:
    """Finds the canonical labels of one graph.

    Attributes:
        refinements: How many refinements that took.
    """

    def __init__(self, graph: Graph) -> None:
        self.refinements = 0
        self._leaves: dict[str, Colours] = {}
        self._automorphisms: list[list[int]] = []
        nodes = [graph.node(id) for id in _by_depth(graph)]
        place = {node.id: i for i, node in enumerate(nodes)}
        owners = [shared(node) for node in nodes]
        reads = [(*n.inputs, *([] if o is None else [o])) for n, o in zip(nodes, owners, strict=True)]
        self._inputs = [[place[i] for i in ids] for ids in reads]
        self._ordered = [not OPS[node.op].commutative for node in nodes]
        self._consumers: list[list[tuple[int, int]]] = [[] for _ in nodes]
        for i, inputs in enumerate(self._inputs):
            for position, j in enumerate(inputs):
                self._consumers[j].append((i, position if self._ordered[i] else 0))
        self._seeds = [
            _seed(node.op, node.attrs, o is None, node.id == graph.output)
            for node, o in zip(nodes, owners, strict=True)
        ]

    def label(self) -> tuple[str, Colours]:
        """The certificate, and a colour for each node that no other node has."""
        return self._search(self._refine(self._seeds), ())

    def _refine(self, seeds: Colours) -> Colours:
        self.refinements += 1
        count = 0
        while True:
            down: Colours = []
            for i, inputs in enumerate(self._inputs):
                read = [down[j] for j in inputs]
                down.append(_joined(seeds[i], tuple(read if self._ordered[i] else sorted(read))))
            if len(set(down)) == len(down):
                return down
            up = list(down)
            for i in range(len(down) - 1, -1, -1):
                up[i] = _digest(down[i], sorted((up[j], position) for j, position in self._consumers[i]))
            if len(set(up)) == count:
                return up
            count, seeds = len(set(up)), up

    @staticmethod
    def _tied(colours: Colours) -> list[int]:
        members: dict[str, list[int]] = {}
        for i, colour in enumerate(colours):
            members.setdefault(colour, []).append(i)
        ties = [(colour, group) for colour, group in members.items() if len(group) > 1]
        return min(ties)[1] if ties else []

    def _mark(self, colours: Colours, i: int) -> Colours:
        marked = list(colours)
        marked[i] = _digest(colours[i], "first")
        return self._refine(marked)

    def _leaf(self, colours: Colours) -> str:
        """Certificate of colours that are all different; one that was met before gives an automorphism."""
        certificate = _digest(sorted(colours))
        met = self._leaves.setdefault(certificate, colours)
        if met is not colours:
            place = {colour: i for i, colour in enumerate(colours)}
            self._automorphisms.append([place[colour] for colour in met])
        return certificate

    def _search(self, colours: Colours, fixed: tuple[int, ...]) -> tuple[str, Colours]:
        """Smallest certificate of all ways to tell the remaining ties apart, after some nodes were."""
        members = self._tied(colours)
        if not members:
            return self._leaf(colours), colours
        best: tuple[str, Colours] | None = None
        tried: list[int] = []
        for i in members:
            if self._exchanged(i, tried, fixed):
                continue
            marked = self._mark(colours, i)
            if tried:
                self._leaf(self._first_leaf(marked))  # may show that a tried one is exchanged with i
                if self._exchanged(i, tried, fixed):
                    continue
            found = self._search(marked, (*fixed, i))
            best = found if best is None else min(best, found)
            tried.append(i)
        assert best is not None
        return best

    def _first_leaf(self, colours: Colours) -> Colours:
        while members := self._tied(colours):
            colours = self._mark(colours, members[0])
        return colours

    def _exchanged(self, i: int, tried: list[int], fixed: tuple[int, ...]) -> bool:
        """True if automorphisms that keep the fixed nodes lead from i to a node already tried."""
        maps = [a for a in self._automorphisms if all(a[v] == v for v in fixed)] if tried else []
        orbit, stack = {i}, [i]
        while stack:
            current = stack.pop()
            for a in maps:
                for image in (a[current], a.index(current)):
                    if image not in orbit:
                        orbit.add(image)
                        stack.append(image)
        return not orbit.isdisjoint(tried)


def canonical(graph: Graph) -> tuple[tuple[str, ...], str]:
    """Canonical topological order of the node ids, and the key."""
    certificate, colours = Labeller(graph).label()
    ids = _by_depth(graph)
    ranked = sorted(zip([graph.depths[id] for id in ids], colours, ids, strict=True))
    return tuple(id for _, _, id in ranked), certificate


def _by_depth(graph: Graph) -> list[str]:
    """Node ids in a topological order that does not depend on how the nodes were given.

    Of nodes that an automorphism exchanges, their names decide which comes first.
    """
    return sorted(graph.shapes, key=lambda id: (graph.depths[id], id))
