"""Canonical order and hash of a graph: equal for isomorphic graphs, whatever their node ids and history.

Colours are refined from both directions (a node's op, attributes and inputs; then its consumers) until they split no
further; nodes still alike are told apart by trying each in turn and keeping the smallest certificate. Branches whose
certificate equals the best one are automorphic and not searched again, so that many equal branches stay cheap.

References:
    McKay, Piperno, Practical graph isomorphism II, 2014, arXiv:1301.1493.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rlnas.graph.graph import Graph


def _digest(*parts: object) -> str:
    return hashlib.blake2b(repr(parts).encode(), digest_size=12).hexdigest()


class _Labeller:
    def __init__(self, graph: Graph, ids: Sequence[str]) -> None:
        from rlnas.graph.ops import OPS

        place = {id: i for i, id in enumerate(ids)}
        nodes = [graph.node(id) for id in ids]
        self.inputs = [[place[i] for i in node.inputs] for node in nodes]
        self.ordered = [not OPS[node.op].commutative for node in nodes]
        self.consumers: list[list[tuple[int, int]]] = [[] for _ in nodes]
        for i, inputs in enumerate(self.inputs):
            for position, j in enumerate(inputs):
                self.consumers[j].append((i, position if self.ordered[i] else 0))
        self.seeds = [_digest(node.op, node.attrs, node.id == graph.output) for node in nodes]

    def refine(self, seeds: list[str]) -> list[str]:
        count = 0
        while True:
            down: list[str] = []
            for i, inputs in enumerate(self.inputs):
                colours = [down[j] for j in inputs]
                down.append(_digest(seeds[i], colours if self.ordered[i] else sorted(colours)))
            if len(set(down)) == len(down):
                return down
            up = [""] * len(down)
            for i in range(len(down) - 1, -1, -1):
                up[i] = _digest(down[i], sorted((up[j], position) for j, position in self.consumers[i]))
            if len(set(up)) == count:
                return up
            count, seeds = len(set(up)), up

    def tied(self, colours: list[str]) -> list[int]:
        members: dict[str, list[int]] = {}
        for i, colour in enumerate(colours):
            members.setdefault(colour, []).append(i)
        ties = [(colour, group) for colour, group in members.items() if len(group) > 1]
        return min(ties)[1] if ties else []

    def mark(self, colours: list[str], i: int) -> list[str]:
        marked = list(colours)
        marked[i] = _digest(colours[i], "first")
        return self.refine(marked)

    def certificate(self, colours: list[str]) -> tuple[str, list[str]]:
        return _digest(sorted(colours)), colours

    def greedy(self, colours: list[str]) -> tuple[str, list[str]]:
        while members := self.tied(colours):
            colours = self.mark(colours, members[0])
        return self.certificate(colours)

    def search(self, colours: list[str]) -> tuple[str, list[str]]:
        members = self.tied(colours)
        if not members:
            return self.certificate(colours)
        best = self.search(self.mark(colours, members[0]))
        for i in members[1:]:
            colours_i = self.mark(colours, i)
            if self.greedy(colours_i)[0] != best[0]:
                best = min(best, self.search(colours_i))
        return best


def canonical(graph: Graph, ids: Sequence[str], depths: dict[str, int]) -> tuple[tuple[str, ...], str]:
    """Canonical topological order of the node ids, and the key.

    Args:
        ids: All node ids in any topological order.
        depths: Longest distance of each node from an input.
    """
    labeller = _Labeller(graph, ids)
    certificate, colours = labeller.search(labeller.refine(labeller.seeds))
    ranked = sorted(zip((depths[id] for id in ids), colours, ids, strict=True))
    return tuple(id for _, _, id in ranked), certificate
