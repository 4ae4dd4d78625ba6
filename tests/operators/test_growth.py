"""Growing operators on families of networks: all checks, sequences and faults."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlnas.graph import Graph
from rlnas.operators import OPERATORS, Operator, apply_sites
from tests.operators.broken_growth import BROKEN_GROWTH, with_identities
from tests.operators.checks import CHECKS, Case, check_legality
from tests.operators.families import FAMILIES
from tests.operators.sameness import check_exact, generator, make_inputs, make_network
from tests.operators.test_conformance import QUICK, SEEDS

MODULES = ("deepen", "dense", "expand", "gate", "groups", "kernel", "path", "residual", "skip", "widen")
GROWING = sorted(name for name, op in OPERATORS.items() if type(op).__module__.rpartition(".")[2] in MODULES)
PICKS = st.lists(st.integers(0, 1_000_000), min_size=8, max_size=8)
QUICK_CHECKS = ("check_function", "check_costs", "check_graph")


def family(name: str) -> Graph:
    """A small network, with identity edges for the operators that act on them."""
    return with_identities(FAMILIES[name]()) if name in ("volume", "squeezenet") else FAMILIES[name]()


def cases(operator: Operator, name: str, *, every: int = 1) -> list[Case]:
    network = make_network(family(name), 1)
    return [Case(operator, network, site, 3) for site in operator.sites(network.graph)[::every]]


@pytest.mark.parametrize("name", FAMILIES)
def test_function_cost_and_graph_at_some_sites_of_each_operator(name: str) -> None:
    for operator in GROWING:
        for case in cases(OPERATORS[operator], name, every=7):
            for check in QUICK_CHECKS:
                CHECKS[check](case)


@pytest.mark.slow
@pytest.mark.parametrize("operator", GROWING)
@pytest.mark.parametrize("name", FAMILIES)
def test_all_checks_at_every_site(operator: str, name: str) -> None:
    for case in cases(OPERATORS[operator], name):
        for check in CHECKS.values():
            check(case)


def test_each_operator_has_sites_on_some_family() -> None:
    met = {site.operator for name in FAMILIES for op in GROWING for site in OPERATORS[op].sites(family(name))}
    assert met == set(GROWING)


@pytest.mark.parametrize("name", ["mobilenet", "transformer", "signal"])
def test_sites_are_all_there_is(name: str) -> None:
    network = make_network(family(name), 0)
    for operator in GROWING:
        check_legality(OPERATORS[operator], network)


@given(
    name=st.sampled_from(sorted(FAMILIES)), seed=SEEDS, picks=st.lists(st.integers(0, 10_000), min_size=8, max_size=8)
)
@settings(QUICK, max_examples=40)
def test_sequences_of_eight(name: str, seed: int, picks: list[int]) -> None:
    run_sequence(name, seed, picks)


@pytest.mark.slow
@given(name=st.sampled_from(sorted(FAMILIES)), seed=SEEDS, picks=PICKS)
@settings(QUICK, max_examples=500)
def test_sequences_of_eight_at_length(name: str, seed: int, picks: list[int]) -> None:
    run_sequence(name, seed, picks)


def run_sequence(name: str, seed: int, picks: list[int]) -> None:
    """Edits one after the other, each at a site of the network that the last one made."""
    start = current = make_network(family(name), seed)
    for pick in picks:
        operator = GROWING[pick % len(GROWING)]
        offered = OPERATORS[operator].sites(current.graph)
        if offered and current.graph.n_params < 100_000:
            current = apply_sites(current, [offered[pick // len(GROWING) % len(offered)]], generator=generator(pick))
    check_exact(start, current, make_inputs(start.graph, seed))


@pytest.mark.parametrize("fault", BROKEN_GROWTH)
def test_fault_is_found(fault: str) -> None:
    operator, check, graph = BROKEN_GROWTH[fault]
    failed = 0
    for site in operator.sites(graph):
        try:
            CHECKS[check](Case(operator, make_network(graph, 0), site, 0))
        except AssertionError:
            failed += 1
            break
    assert failed


def test_every_operator_has_a_fault_that_is_found() -> None:
    assert {operator.name for operator, _, _ in BROKEN_GROWTH.values()} >= set(GROWING) - {"widen", "insert_residual"}
