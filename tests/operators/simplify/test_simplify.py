"""Every simplification over random networks that were grown and have superfluous parts planted in them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlnas.graph import Graph
from tests.graphs import graphs
from tests.operators.sameness import make_network
from tests.operators.simplify.exactness import check_findings, check_simplify
from tests.operators.simplify.planting import grow, plant
from tests.operators.test_conformance import QUICK, SEEDS
from tests.transformers import transformers

PICKS = st.lists(st.integers(0, 10_000), max_size=3)


def check(graph: Graph, seed: int, picks: list[int], training: bool) -> None:
    network = plant(grow(make_network(graph, seed), picks), seed)
    check_findings(network, training=training)
    check_simplify(network, training=training)


@given(graph=graphs(), seed=SEEDS, picks=PICKS, training=st.booleans())
@settings(QUICK, max_examples=15)
def test_on_random_networks(graph: Graph, seed: int, picks: list[int], training: bool) -> None:
    check(graph, seed, picks, training)


@given(graph=graphs(dropout=True), seed=SEEDS, picks=PICKS, training=st.booleans())
@settings(QUICK, max_examples=6)
def test_with_dropout(graph: Graph, seed: int, picks: list[int], training: bool) -> None:
    check(graph, seed, picks, training)


@given(graph=transformers(), seed=SEEDS, picks=PICKS, training=st.booleans())
@settings(QUICK, max_examples=6)
def test_on_transformers(graph: Graph, seed: int, picks: list[int], training: bool) -> None:
    check(graph, seed, picks, training)


@pytest.mark.slow
@given(graph=st.one_of(graphs(), graphs(dropout=True), transformers()), seed=SEEDS, picks=PICKS, training=st.booleans())
@settings(QUICK, max_examples=150)
def test_on_many(graph: Graph, seed: int, picks: list[int], training: bool) -> None:
    check(graph, seed, picks, training)
