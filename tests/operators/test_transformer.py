"""Every operator on transformers: each check at each kind of site, and sequences over the whole registry."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlnas.graph import Graph
from rlnas.operators import OPERATORS, Operator
from tests.operators.checks import CHECKS, Case, check_legality
from tests.operators.sameness import check_exact, make_inputs, make_network, permuted
from tests.operators.test_conformance import LONG, QUICK, SEEDS, run_sequence
from tests.transformers import transformers

EXACT_NAMES = sorted(name for name, operator in OPERATORS.items() if operator.exact)
PICKS = st.lists(st.integers(0, 10_000), min_size=2, max_size=8)
EXACT_ONLY = ("check_everything_learns", "check_compensation")
"""Not for approximate operators: without its only attention a class token reads no patches, and what a norm makes of
fewer channels is not what layers were refitted to."""


def conform(operator: Operator, graph: Graph, seed: int, pick: int) -> None:
    network, sites = make_network(graph, seed), operator.sites(graph)
    if sites:
        case = Case(operator, network, sites[pick % len(sites)], seed)
        for name, check in CHECKS.items():
            if operator.exact or name not in EXACT_ONLY:
                check(case)


@pytest.mark.parametrize("name", sorted(OPERATORS))
@given(graph=transformers(), seed=SEEDS, pick=st.integers(0, 100))
@QUICK
def test_operator(name: str, graph: Graph, seed: int, pick: int) -> None:
    conform(OPERATORS[name], graph, seed, pick)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(OPERATORS))
@given(graph=transformers(), seed=SEEDS, pick=st.integers(0, 100))
@LONG
def test_operator_at_length(name: str, graph: Graph, seed: int, pick: int) -> None:
    conform(OPERATORS[name], graph, seed, pick)


@given(graph=transformers(dropout=True), seed=SEEDS)
@QUICK
def test_sites_are_all_there_is(graph: Graph, seed: int) -> None:
    network = make_network(graph, seed)
    for operator in OPERATORS.values():
        check_legality(operator, network)


@given(graph=transformers(), seed=SEEDS)
@QUICK
def test_permuting_coupled_channels_changes_nothing(graph: Graph, seed: int) -> None:
    network = make_network(graph, seed)
    check_exact(network, permuted(network, seed), make_inputs(graph, seed))


@given(graph=transformers(), seed=SEEDS, picks=PICKS)
@QUICK
def test_sequences_of_exact_operators(graph: Graph, seed: int, picks: list[int]) -> None:
    run_sequence(graph, seed, picks, EXACT_NAMES)


@given(graph=transformers(), seed=SEEDS, picks=PICKS)
@QUICK
def test_sequences_of_all_operators(graph: Graph, seed: int, picks: list[int]) -> None:
    run_sequence(graph, seed, picks, sorted(OPERATORS))


@pytest.mark.slow
@given(graph=transformers(), seed=SEEDS, picks=PICKS)
@LONG
def test_sequences_at_length(graph: Graph, seed: int, picks: list[int]) -> None:
    run_sequence(graph, seed, picks, EXACT_NAMES)
