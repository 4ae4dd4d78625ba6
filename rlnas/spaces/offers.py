"""Which edits there are in a graph, and what each costs: looked up where the same was met before.

Working out what an edit costs means making the edited graph, and a space offers a hundred in every state. Where what
is around a node decides it, it is enough to do that once for all places alike; see `rlnas.spaces.surroundings`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple, get_args

from rlnas.graph import Graph, Site
from rlnas.layout import Layout
from rlnas.operators import Operator, get_operator
from rlnas.operators.base import Reach
from rlnas.spaces.surroundings import Surroundings

if TYPE_CHECKING:
    from rlnas.spaces.morph import Variant

MEMO: Final = 20_000
"""Places whose offers are remembered."""


class Offer(NamedTuple):
    """An edit that can be made at a node.

    Attributes:
        variant: Number of the variant.
        target: The site's second node.
        n_params: What it adds to the parameters.
        macs: What it adds to the multiply-accumulates.
        nodes: What it adds to the number of nodes.
    """

    variant: int
    target: str | None
    n_params: int
    macs: int
    nodes: int


class Offered(Mapping[int, Site]):
    """Sites by action number, made when they are asked for."""

    def __init__(self, layout: Layout, variants: tuple[Variant, ...], found: dict[int, tuple[str, str | None]]) -> None:
        self._layout, self._variants, self._found = layout, variants, found

    def __getitem__(self, action: int) -> Site:
        anchor, target = self._found[action]
        variant = self._variants[self._layout.slot_and_variant(action)[1]]
        return Site(variant.operator, anchor, target, variant.amount)

    def __iter__(self) -> Iterator[int]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


class Offers:
    """The edits of graphs by some variants.

    Args:
        variants: The variants.
    """

    def __init__(self, variants: tuple[Variant, ...]) -> None:
        self._variants = variants
        self._operators = [get_operator(variant.operator) for variant in variants]
        self._surroundings = Surroundings()
        self._memo: dict[Hashable, tuple[Offer, ...]] = {}
        self._reaches: dict[str, dict[Reach | None, tuple[int, ...]]] = {}

    def __reduce__(self) -> tuple[type[Offers], tuple[tuple[Variant, ...]]]:
        return Offers, (self._variants,)

    def of(self, graph: Graph) -> dict[str, tuple[Offer, ...]]:
        """The offers at each node, by its id, in canonical order; those of a node in the order of the variants."""
        if graph.shared:  # ties reach beyond what is near
            return self._far(graph, range(len(self._variants)), dict.fromkeys(graph.order, ()))
        found: dict[str, tuple[Offer, ...]] = {}
        far: set[int] = set()
        for id, around in self._surroundings.of(graph).items():
            by_reach = self._acting(graph.node(id).op)
            far.update(by_reach[None])
            near = self._near(graph, id, around.value, by_reach["value"])
            tied = self._near(graph, id, around.component, by_reach["component"])
            whole = self._near(graph, id, around.layer, by_reach["layer"])
            found[id] = tuple(sorted(near + tied + whole)) if near or whole else tied
        return self._far(graph, sorted(far), found) if far else found

    def _acting(self, op: str) -> dict[Reach | None, tuple[int, ...]]:
        """Variants that act at nodes of an op, by how far they reach."""
        if op not in self._reaches:
            acting = [v for v, o in enumerate(self._operators) if o.anchors is None or op in o.anchors]
            reaches: tuple[Reach | None, ...] = (*get_args(Reach), None)
            self._reaches[op] = {r: tuple([v for v in acting if self._operators[v].reach(op) == r]) for r in reaches}
        return self._reaches[op]

    def _near(self, graph: Graph, id: str, around: Hashable, variants: tuple[int, ...]) -> tuple[Offer, ...]:
        """Offers at a node by variants for which it matters no more than what is around."""
        if not variants:
            return ()
        key = (around, variants)
        offers = self._memo.get(key)
        if offers is None:
            if len(self._memo) >= MEMO:
                self._memo.clear()
            offers = self._memo[key] = tuple(self._worked_out(graph, id, variants))
        return offers

    def _worked_out(self, graph: Graph, id: str, variants: Iterable[int]) -> Iterator[Offer]:
        for v in variants:
            operator, site = self._operators[v], Site(self._variants[v].operator, id, None, self._variants[v].amount)
            if operator.obstacle(graph, site) is None:
                yield _offer(graph, operator, site, v)

    def _far(
        self, graph: Graph, variants: Iterable[int], near: Mapping[str, tuple[Offer, ...]]
    ) -> dict[str, tuple[Offer, ...]]:
        """Offers at each node with those of the variants that must look farther."""
        more: dict[str, list[Offer]] = {}
        for v in variants:
            operator, amount = self._operators[v], self._variants[v].amount
            if graph.shared or operator.takes_target:
                sites = operator.sites(graph, (amount,))
            else:
                ids = [id for id in operator.candidates(graph) if operator.reach(graph.node(id).op) is None]
                made = [Site(operator.name, id, None, amount) for id in ids]
                sites = tuple([site for site in made if operator.obstacle(graph, site) is None])
            for site in sites:
                more.setdefault(site.anchor, []).append(_offer(graph, operator, site, v))
        return {
            id: tuple(sorted([*offers, *more[id]], key=lambda offer: offer.variant)) if id in more else offers
            for id, offers in near.items()
        }


def _offer(graph: Graph, operator: Operator, site: Site, variant: int) -> Offer:
    edit = operator.edit(graph, site)
    cost = edit.cost_delta
    return Offer(variant, site.target, cost.n_params, cost.macs, len(edit.graph) - len(graph))
