"""How a network that breaks limits gets to one that keeps them, by edits alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Final

from rlnas.graph import Graph
from rlnas.spaces.limits import Limits

BEAM: Final = 16
MEMO: Final = 2_048
"""Networks whose ways are remembered."""
NEVER: Final = math.inf

Edits = Callable[[Graph, bool, bool, bool], Iterable[Graph]]
"""The graphs one edit away, by edits that can lower costs (first flag) and by those that can raise them (second).

The third flag asks for a few of them only.
"""


def total(ratios: list[tuple[float, float]]) -> float:
    """How far outside: the sum of the logarithms of all ratios above 1."""
    return sum(math.log(min(ratio, 1e300)) for pair in ratios for ratio in pair if ratio > 1.0)


def largest(ratios: list[tuple[float, float]]) -> float:
    """How far outside: the logarithm of the largest ratio above 1."""
    return max((math.log(min(ratio, 1e300)) for pair in ratios for ratio in pair if ratio > 1.0), default=0.0)


MEASURES: Final = (total, largest)


class Ways:
    """Knows, of a network that breaks limits, whether so many edits are enough to keep them.

    It follows a few walks, each of which always takes the edit, out of a few, after which the network is the least
    outside the limits, by a measure of its own. A walk from the second network of a walk is the rest of it. So wherever
    this says that k edits are enough, there is an edit after which it says that k - 1 are: who keeps to such edits
    arrives. It may miss a way, but names none that does not exist. What it says depends on the network alone, not on
    what was asked before.

    Args:
        limits: The limits.
        edits: The graphs one edit away.
        steps: Edits of the longest search.
    """

    def __init__(self, limits: Limits, edits: Edits, steps: int) -> None:
        self._limits = limits
        self._edits = edits
        self._steps = steps
        self._next: dict[str, tuple[Graph | None, ...]] = {}  # second networks of the walks
        self._lengths: list[dict[str, float]] = [{} for _ in MEASURES]  # of walks that arrive, or end elsewhere
        self._path: dict[str, int] = {}

    def within(self, graph: Graph, steps: int) -> bool:
        """Whether so many edits are known to be enough."""
        if len(self._next) > MEMO:  # what is found again is the same
            self._next.clear()
            for known in self._lengths:
                known.clear()
        if self._limits.met_by(graph):
            return True
        if steps < 1:
            return False
        if self._path.get(graph.key, steps + 1) <= steps:
            return True
        return any(self._arrives(graph, way, steps) for way in range(len(MEASURES)))

    def outside(self, graph: Graph) -> tuple[bool, bool]:
        """Whether it is over an upper limit, and whether it is under a lower one."""
        ratios = self._limits.ratios(graph)
        return any(over > 1.0 for over, _ in ratios), any(under > 1.0 for _, under in ratios)

    def towards(self, graph: Graph, *, few: bool = False) -> list[Graph]:
        """The graphs one edit away that can be nearer, or a few of them."""
        return list(self._edits(graph, *self.outside(graph), few))

    def search(self, start: Graph) -> Graph:
        """Search more widely, once, from where episodes start; its way counts from then on.

        Returns:
            A graph that keeps the limits, or the nearest found.
        """
        beam: list[list[Graph]] = [[start]]
        best, seen = [start], {start.key}
        for _ in range(self._steps):
            found: dict[str, list[Graph]] = {}
            for way in beam:
                for after in self.towards(way[-1]):
                    if after.key not in seen:
                        found.setdefault(after.key, [*way, after])
            if not found:
                break
            beam = sorted(found.values(), key=lambda way: (self._distances(way[-1])[0], way[-1].key))[:BEAM]
            seen.update(way[-1].key for way in beam)
            best = min(best, beam[0], key=lambda way: self._distances(way[-1])[0])
            if self._limits.met_by(best[-1]):
                self._path = {graph.key: len(best) - 1 - i for i, graph in enumerate(best)}
                break
        return best[-1]

    def _distances(self, graph: Graph) -> tuple[float, ...]:
        """How far outside, by each measure."""
        ratios = self._limits.ratios(graph)
        return tuple(measure(ratios) for measure in MEASURES)

    def _arrives(self, graph: Graph, way: int, steps: int) -> bool:
        """Whether the walk by one measure arrives within so many edits."""
        lengths, passed = self._lengths[way], list[str]()
        while graph.key not in lengths:
            if self._limits.met_by(graph):
                lengths[graph.key] = 0
            elif len(passed) == steps:
                return False  # it may still arrive later
            elif (after := self._seconds(graph)[way]) is None:
                lengths[graph.key] = NEVER
            else:
                passed.append(graph.key)
                graph = after
        length = lengths[graph.key]
        for key in reversed(passed):
            length += 1
            lengths[key] = length
        return length <= steps

    def _seconds(self, graph: Graph) -> tuple[Graph | None, ...]:
        """For each measure the network after the edit that leaves it the least outside; None if none is less so."""
        if graph.key not in self._next:
            known = self._distances(graph)
            nearer = [(self._distances(after), after.key, after) for after in self.towards(graph, few=True)]
            chosen: list[Graph | None] = []
            for way, distance in enumerate(known):
                best = min(nearer, key=lambda option, way=way: (option[0][way], option[1]), default=None)  # type: ignore[misc]
                chosen.append(best[2] if best is not None and best[0][way] < distance else None)
            self._next[graph.key] = tuple(chosen)
        return self._next[graph.key]
