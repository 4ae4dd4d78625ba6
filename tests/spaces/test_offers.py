"""What is looked up is what working it out would give: for all operators, in many graphs that share one memory."""

from __future__ import annotations

import pickle
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlnas.graph import Graph
from rlnas.operators import OPERATORS, get_operator
from rlnas.spaces import Variant, conv_stages
from rlnas.spaces.offers import Offer, Offers
from tests.envs.cases import mobile, residual, transformer
from tests.graphs import Builder, graphs, renamed
from tests.nets import densenet, mobilenet, resnet20
from tests.transformers import image_classifier, language_model, transformers

VARIANTS = tuple(Variant(name, amount) for name, operator in OPERATORS.items() for amount in operator.amounts)
SHARED = Offers(VARIANTS)
"""Met by all graphs of this file, so that what one leaves is looked up by the others."""
NETS = {
    "stages": conv_stages((1, 8, 8), 10),
    "residual": residual(),
    "mobile": mobile(),
    "transformer": transformer(),
    "resnet": resnet20(4, 2),
    "mobilenet": mobilenet(),
    "densenet": densenet((2, 2), 4),
}


def worked_out(graph: Graph) -> dict[str, list[Offer]]:
    """The offers at each node, each edit made."""
    found: dict[str, list[Offer]] = {id: [] for id in graph.order}
    for v, variant in enumerate(VARIANTS):
        operator = get_operator(variant.operator)
        for site in operator.sites(graph, (variant.amount,)):
            edit = operator.edit(graph, site)
            cost = edit.cost_delta
            more = len(edit.graph) - len(graph)
            found[site.anchor].append(Offer(v, site.target, cost.n_params, cost.macs, more))
    return found


def check(graph: Graph, offers: Offers = SHARED) -> None:
    found = offers.of(graph)
    assert list(found) == list(graph.order)
    wanted = worked_out(graph)
    for id in graph.order:
        key = lambda offer: (offer.variant, str(offer.target))  # noqa: E731
        assert sorted(found[id], key=key) == sorted(wanted[id], key=key), id
        assert [offer.variant for offer in found[id]] == sorted(offer.variant for offer in found[id])


def wander(graph: Graph, steps: int, seed: int) -> None:
    """Check a graph and those that random edits lead to."""
    rng = random.Random(seed)
    for _ in range(steps):
        check(graph)
        operator = get_operator(rng.choice(list(OPERATORS)))
        sites = operator.sites(graph)
        if sites:
            after = operator.edit(graph, rng.choice(sites)).graph
            graph = after if len(after) < 60 else graph


@pytest.mark.parametrize("name", NETS)
def test_known_networks_and_what_edits_make_of_them(name: str) -> None:
    wander(NETS[name], 4, seed=len(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("seed", range(6))
def test_long_walks(name: str, seed: int) -> None:
    wander(NETS[name], 25, seed)


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(graphs(dropout=True))
def test_any_graph(graph: Graph) -> None:
    check(graph)


@settings(max_examples=10, suppress_health_check=[HealthCheck.too_slow])
@given(transformers(dropout=True))
def test_any_transformer(graph: Graph) -> None:
    check(graph)


@pytest.mark.slow
@settings(max_examples=1500, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(graphs(dropout=True), transformers(dropout=True)))
def test_very_many_graphs(graph: Graph) -> None:
    check(graph)


def test_names_and_the_order_of_nodes_make_no_difference() -> None:
    graph, offers = resnet20(4, 2), Offers(VARIANTS)
    first, memo = offers.of(graph), len(offers._memo)
    again = offers.of(renamed(graph, 3)[0])
    assert len(offers._memo) == memo  # nothing was worked out anew
    for one, other in zip(first.values(), again.values(), strict=True):
        assert [offer._replace(target=None) for offer in one] == [offer._replace(target=None) for offer in other]


def test_shared_tensors_are_looked_at_as_a_whole() -> None:
    check(language_model(tied=True))


def test_the_style_of_the_whole_graph_counts() -> None:
    """What an inserted block is made of hangs on norms and activations that are far away."""

    def net(*, norms: bool) -> Graph:
        b = Builder(1, 8, 8)
        b.conv(4, 3)
        b.add("relu")
        for _ in range(2):
            b.conv(5, 3)
            if norms:
                b.add("batch_norm2d")
            b.add("relu")
        b.add("flatten")
        b.add("linear", out_channels=3)
        return b.graph()

    v = VARIANTS.index(Variant("insert_residual", 3))
    costs = []
    for graph in (net(norms=False), net(norms=True), net(norms=False)):
        check(graph)
        offers = SHARED.of(graph)["relu_1"]
        costs.append(next(offer.n_params for offer in offers if offer.variant == v))
    assert costs[0] == costs[2] != costs[1]


def test_copies_begin_with_nothing() -> None:
    offers = Offers(VARIANTS)
    offers.of(image_classifier())
    twin = pickle.loads(pickle.dumps(offers))
    assert not twin._memo and twin.of(image_classifier()) == offers.of(image_classifier())
