"""The space of networks that a few edits make from a start network, and which edits are legal where."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from rlnas.errors import ConfigError, LimitError, SpaceError, unknown_name
from rlnas.graph import Graph, Site
from rlnas.layout import STOP, Layout
from rlnas.operators import get_operator
from rlnas.spaces.limits import Limits
from rlnas.spaces.offers import Offer, Offered, Offers
from rlnas.spaces.reaching import Ways

MEMO = 512
"""States whose legal actions are remembered."""
PLAIN: Final = frozenset({"n_params", "macs"})
"""Costs that are sums over nodes, so that what an edit adds is known without making it."""

ENFORCE: Final = ("mask", "reject", "penalty")
"""What is done about limits: illegal actions; networks that are not evaluated; a lower reward."""


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
    sites: Mapping[int, Site] = field(default_factory=dict)

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
        limits: Upper and lower limits on cost.
        enforce: ``"mask"`` makes illegal what breaks the limits for good. Otherwise every edit is legal, and a network
            that breaks them is not evaluated (``"reject"``), or evaluated and paid less (``"penalty"``).

    Raises:
        ConfigError: If ``enforce`` is not known, or does nothing since there is no limit.
        SpaceError: If there is nothing to choose, an operator is unknown, or the start has more nodes than slots.
        LimitError: If no network found within ``max_steps`` edits meets the limits.
    """

    start: Graph
    variants: tuple[Variant, ...]
    max_steps: int = 6
    max_nodes: int = 48
    limits: Limits = field(default_factory=Limits)
    enforce: str = "mask"
    _memo: OrderedDict[tuple[Graph, int], Legal] = field(
        default_factory=OrderedDict, repr=False, compare=False, init=False
    )

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
        if self.enforce not in ENFORCE:
            raise ConfigError(unknown_name("way to enforce limits:", self.enforce, ENFORCE))
        if self.enforce != "mask" and not self.limits.bounds:
            raise ConfigError(f"enforce={self.enforce!r} does nothing without a limit")
        self._ways  # noqa: B018  (refuses limits that nothing meets)

    def __getstate__(self) -> dict[str, object]:
        kept = {name: value for name, value in self.__dict__.items() if name not in ("_ways", "_offers")}
        return kept | {"_memo": OrderedDict()}

    @cached_property
    def layout(self) -> Layout:
        """Sizes of observations and actions."""
        return Layout(slots=self.max_nodes, variants=len(self.variants), names=tuple(map(str, self.variants)))

    @cached_property
    def _offers(self) -> Offers:
        """Edits and their costs."""
        return Offers(self.variants)

    @cached_property
    def _ways(self) -> Ways:
        """Ways back into the limits, at least one from the start."""
        ways = Ways(self.limits, self._graphs, self.max_steps)
        after = [self.start] if self.limits.met_by(self.start) else ways.towards(self.start)
        if not any(ways.within(graph, self.max_steps - 1) for graph in after):
            nearest = ways.search(self.start)
            if not self.limits.met_by(nearest):
                raise LimitError(
                    f"no network found within {self.max_steps} edits of the start meets {self.limits}: the start has "
                    f"{self.limits.costs(self.start)}; the nearest found has {self.limits.costs(nearest)}"
                )
        return ways

    def legal(self, graph: Graph, *, steps_left: int) -> Legal:
        """The legal actions on a graph; never none.

        A graph that keeps the limits may stop, and only edits that keep them are legal. If there is none, edits that
        break them are legal from which they can be kept again within the remaining steps. A graph that breaks limits
        may not stop but must come nearer: legal are the edits from which the limits can be kept within the remaining
        steps, by operators that can lower costs if it is over a limit, and by those that can raise them if it is under
        one. "Can" means that such a way is known; see `Ways`.

        Where limits are not enforced by the mask, every edit is legal, and so is STOP.
        """
        if steps_left == 0:
            return Legal(stop=True)
        if self.enforce != "mask":
            return self._remembered(graph, -1, lambda: Legal(True, self.edits(graph)))
        if not self.limits.met_by(graph):
            return self._remembered(graph, steps_left, lambda: self._towards(graph, steps_left))
        legal = self._remembered(graph, -1, lambda: self._within(graph))
        if legal.sites or steps_left == 1:
            return legal
        return self._remembered(graph, steps_left, lambda: self._around(graph, steps_left))

    def edits(self, graph: Graph) -> Mapping[int, Site]:
        """Site of each edit that there is room for, by action number, whatever the limits."""
        return self._chosen(graph, lambda offer: True)

    def edited(self, graph: Graph, site: Site) -> Graph:
        """The graph after one edit."""
        return get_operator(site.operator).edit(graph, site).graph

    def _remembered(self, graph: Graph, steps: int, find: Callable[[], Legal]) -> Legal:
        """What was found for a graph before; ``steps`` is -1 where it does not depend on the steps left."""
        key = (graph, steps)
        if key not in self._memo:
            self._memo[key] = find()
            if len(self._memo) > MEMO:
                self._memo.popitem(last=False)
        return self._memo[key]

    def _within(self, graph: Graph) -> Legal:
        """Edits of a graph that keeps the limits after which it still does."""
        bounds = self.limits.bounds
        if not PLAIN.issuperset([bound.cost for bound in bounds]):
            return Legal(True, {a: site for a, site, after in self._edits(graph) if self.limits.met_by(after)})
        room = {cost: (-math.inf, math.inf) for cost in PLAIN}  # how much each may change
        for bound in bounds:
            now = getattr(graph, bound.cost)
            low = -math.inf if bound.low is None else bound.low - now
            room[bound.cost] = (low, math.inf if bound.high is None else bound.high - now)
        (less, more), (fewer, most) = room["n_params"], room["macs"]
        return Legal(True, self._chosen(graph, lambda o: less <= o.n_params <= more and fewer <= o.macs <= most))

    def _chosen(self, graph: Graph, wanted: Callable[[Offer], bool]) -> Mapping[int, Site]:
        """Those offers that there is room for and that are wanted, by action number."""
        found: dict[int, tuple[str, str | None]] = {}
        room, step = self.max_nodes - len(graph), len(self.variants)
        for slot, (id, offers) in enumerate(self._offers.of(graph).items()):
            for offer in offers:
                if offer.nodes <= room and wanted(offer):
                    found[1 + slot * step + offer.variant] = (id, offer.target)
        return Offered(self.layout, self.variants, found)

    def _around(self, graph: Graph, steps_left: int) -> Legal:
        """Edits after which the limits are broken, and can be kept again."""
        return Legal(True, {a: s for a, s, after in self._edits(graph) if self._ways.within(after, steps_left - 1)})

    def _towards(self, graph: Graph, steps_left: int) -> Legal:
        """Edits of a graph that breaks the limits after which they can be kept."""
        over, under = self._ways.outside(graph)
        nearer = self._edits(graph, lower=over, higher=under)
        sites = {a: site for a, site, after in nearer if self._ways.within(after, steps_left - 1)}
        return Legal(not sites, sites)

    def _edits(
        self, graph: Graph, *, lower: bool = True, higher: bool = True, few: bool = False
    ) -> list[tuple[int, Site, Graph]]:
        """Edits that there is room for, in the order of their actions: (action, site, graph after it).

        Args:
            lower: Those by operators that can lower a cost.
            higher: Those by the others.
            few: Of each variant only those at the cheapest and at the dearest node.
        """
        slots = {id: slot for slot, id in enumerate(graph.order)}
        costs = graph.node_costs if few else {}
        found: list[tuple[int, Site]] = []
        for v, variant in enumerate(self.variants):
            operator = get_operator(variant.operator)
            if lower if operator.shrinks else higher:
                sites: Sequence[Site] = operator.sites(graph, (variant.amount,))
                if few and len(sites) > 2:
                    by_cost = sorted(sites, key=lambda site: (costs[site.anchor], slots[site.anchor]))
                    sites = (by_cost[0], by_cost[-1])
                found += [(self.layout.action(slots[site.anchor], v), site) for site in sites]
        made = [(action, site, self.edited(graph, site)) for action, site in sorted(found, key=lambda pair: pair[0])]
        return [edit for edit in made if len(edit[2]) <= self.max_nodes]

    def _graphs(self, graph: Graph, lower: bool, higher: bool, few: bool) -> list[Graph]:
        """Graphs one edit away."""
        return [after for _, _, after in self._edits(graph, lower=lower, higher=higher, few=few)]
