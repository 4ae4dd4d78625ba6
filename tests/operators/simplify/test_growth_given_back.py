"""What operators add without changing the function, simplification takes out again."""

from __future__ import annotations

import pytest

from rlnas.network import Network
from rlnas.operators import OPERATORS, Operator
from rlnas.operators.simplify import simplify
from rlnas.operators.widen import Widen
from tests.operators.families import FAMILIES
from tests.operators.sameness import check_exact, generator, make_inputs, make_network

GIVEN_BACK = (
    *("widen", "insert_residual", "insert_bottleneck", "insert_inverted", "add_skip", "insert_node", "insert_layer"),
    *("replicate_add", "split_concat", "expand_inverted_residual"),
)


def size(network: Network) -> tuple[int, int]:
    return network.graph.n_params, network.graph.macs


def check_given_back(operator: Operator, family: str, every: int) -> int:
    """At one of so many sites: grown and simplified, a network is as large as if it had only been simplified."""
    before = make_network(FAMILIES[family](), 1)
    smallest, sites = size(simplify(before, training=True)), operator.sites(before.graph)[::every]
    for site in sites:
        grown = operator.apply(before, site, generator=generator(0))
        after = simplify(grown, training=True)
        assert size(after) == smallest, site
        check_exact(before, after, make_inputs(before.graph, 0))
    return len(sites)


@pytest.mark.parametrize("family", FAMILIES)
def test_replicas_without_noise_are_found_again(family: str) -> None:
    check_given_back(Widen(noise=0.0), family, 12)


@pytest.mark.parametrize("name", GIVEN_BACK)
def test_what_operators_added_is_taken_out_again(name: str) -> None:
    assert sum(check_given_back(OPERATORS[name], family, 40) for family in FAMILIES)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", GIVEN_BACK)
def test_at_every_site(name: str, family: str) -> None:
    check_given_back(OPERATORS[name], family, 1)


@pytest.mark.parametrize("family", ["resnet", "mobilenet", "densenet"])
def test_all_layers_widened_twice(family: str) -> None:
    """Noise on the columns hides later replicas until earlier ones are merged; a few rounds find them all."""
    before = make_network(FAMILIES[family](), 1)
    grown = before
    for _ in range(2):
        for site in OPERATORS["widen"].sites(before.graph, (1.5,)):
            grown = OPERATORS["widen"].apply(grown, site, generator=generator(2))
    after = simplify(grown, ["merge_duplicate_channels"], training=True)
    assert size(grown) > size(after) == size(before)
    check_exact(before, after, make_inputs(before.graph, 0))
