"""The space of networks that a few edits make from a start network, and which edits are legal where."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cached_property

from rlnas.errors import LimitError, SpaceError
from rlnas.graph import Graph, Site
from rlnas.layout import STOP, Layout
from rlnas.operators import get_operator
from rlnas.spaces.limits import Limits

BEAM = 4
MEMO = 20_000


@dataclass(frozen=True)
class Variant:
    """One column of the action table.

    Attributes:
        operator: Name of an operator.
        amount: How much of it.
    """

    operator: str
    amount: float

    def __str__(self) -> str:
        return f"{self.operator}({self.amount:g})"


@dataclass(frozen=True)
class Legal:
    """What may be done with one graph.

    Attributes:
        stop: True if the episode may end here.
        sites: Site of each legal action but STOP, by action number.
    """

    stop: bool
    sites: dict[int, Site] = field(default_factory=dict)

    @property
    def actions(self) -> tuple[int, ...]:
        """Numbers of the legal actions, ascending."""
        return ((STOP,) if self.stop else ()) + tuple(self.sites)


@dataclass(frozen=True)
class MorphSpace:
    """Networks within ``max_steps`` edits of a start network that keep the limits.

    Attributes:
        start: Where every episode begins.
        variants: The list of (operator, amount) that actions choose from.
        max_steps: Edits in one episode at most.
        max_nodes: Nodes at most; edits beyond are not legal.
        limits: Upper limits on cost.

    Raises:
        SpaceError: If there is nothing to choose, an operator is unknown, or the start has more nodes than slots.
        LimitError: If no network found within ``max_steps`` edits meets the limits.
    """

    start: Graph
    variants: tuple[Variant, ...]
    max_steps: int = 6
    max_nodes: int = 48
    limits: Limits = field(default_factory=Limits)
    _memo: OrderedDict[tuple[Graph, bool, int], Legal] = field(
        default_factory=OrderedDict, repr=False, compare=False, init=False
    )
    _reached: dict[tuple[str, int], bool] = field(default_factory=dict, repr=False, compare=False, init=False)

    def __post_init__(self) -> None:
        if not self.variants or len(set(self.variants)) < len(self.variants):
            raise SpaceError("the list of (operator, amount) is empty or names one twice")
        for variant in self.variants:
            get_operator(variant.operator)
        if self.max_steps < 1:
            raise SpaceError(f"max_steps={self.max_steps}; an episode needs at least 1 edit")
        if len(self.start) > self.max_nodes:
            raise SpaceError(
                f"the start network has {len(self.start)} nodes, more than max_nodes={self.max_nodes} slots; "
                "raise max_nodes"
            )
        if not self.limits.met_by(self.start):
            reached, graph = self._shrink(self.start, self.max_steps)
            if not reached:
                raise LimitError(
                    f"no network within {self.max_steps} edits of the start meets {self.limits}: the start has "
                    f"{self.limits.costs(self.start)}; the smallest found has {self.limits.costs(graph)}"
                )

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_memo": OrderedDict(), "_reached": {}}

    @cached_property
    def layout(self) -> Layout:
        """Sizes of observations and actions."""
        return Layout(slots=self.max_nodes, variants=len(self.variants), names=tuple(map(str, self.variants)))

    def legal(self, graph: Graph, *, steps_left: int) -> Legal:
        """The legal actions on a graph; never none.

        A graph that keeps the limits may stop, and only edits that keep them are legal. One that does not may not stop
        but must shrink: legal are the edits by shrinking operators from which a beam search reaches the limits within
        the remaining steps.
        """
        if steps_left == 0:
            return Legal(stop=True)
        inside = self.limits.met_by(graph)
        key = (graph, inside, 0 if inside else steps_left)
        if key not in self._memo:
            self._memo[key] = self._find_legal(graph, inside, steps_left)
            if len(self._memo) > MEMO:
                self._memo.popitem(last=False)
        return self._memo[key]

    def edited(self, graph: Graph, site: Site) -> Graph:
        """The graph after one edit."""
        return get_operator(site.operator).edit(graph, site).graph

    def _all_sites(self, graph: Graph, *, shrinking: bool = False) -> dict[int, Site]:
        slots = {id: slot for slot, id in enumerate(graph.order)}
        found = {
            self.layout.action(slots[site.anchor], v): site
            for v, variant in enumerate(self.variants)
            if not shrinking or get_operator(variant.operator).shrinks
            for site in get_operator(variant.operator).sites(graph, (variant.amount,))
        }
        return dict(sorted(found.items()))

    def _find_legal(self, graph: Graph, inside: bool, steps_left: int) -> Legal:
        sites: dict[int, Site] = {}
        for action, site in self._all_sites(graph, shrinking=not inside).items():
            after = self.edited(graph, site)
            if len(after) > self.max_nodes:
                continue
            if self.limits.met_by(after) or (not inside and self._reaches(after, steps_left - 1)):
                sites[action] = site
        return Legal(stop=inside or not sites, sites=sites)

    def _reaches(self, graph: Graph, steps: int) -> bool:
        key = (graph.key, steps)
        if key not in self._reached:
            self._reached[key] = self._shrink(graph, steps)[0]
        return self._reached[key]

    def _shrink(self, graph: Graph, steps: int) -> tuple[bool, Graph]:
        """Beam search for a graph within the limits: (found, the best one)."""
        beam = [graph]
        best = graph
        for _ in range(steps):
            if self.limits.met_by(best):
                break
            found: dict[str, Graph] = {}
            for current in beam:
                for site in self._all_sites(current, shrinking=True).values():
                    after = self.edited(current, site)
                    if len(after) <= self.max_nodes and self.limits.excess(after) < self.limits.excess(current):
                        found.setdefault(after.key, after)
            if not found:
                break
            beam = [found[k] for k in sorted(found, key=lambda k: (self.limits.excess(found[k]), k))[:BEAM]]
            best = min(best, beam[0], key=self.limits.excess)
        return self.limits.met_by(best), best
