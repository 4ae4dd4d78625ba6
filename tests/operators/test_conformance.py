"""Every registered operator against every check, over random graphs and sequences; and broken ones, which must fail."""

from __future__ import annotations

import math
import statistics

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from rlnas.graph import Graph
from rlnas.network import Network
from rlnas.operators import OPERATORS, Operator, apply_sites
from tests.graphs import Builder, graphs
from tests.operators.broken import BROKEN
from tests.operators.checks import CHECKS, Case, check_function, check_function_in_float32, check_legality, drift
from tests.operators.sameness import (
    EXACT,
    check_exact,
    drifts,
    generator,
    make_inputs,
    make_network,
    permuted,
    relative,
)

QUICK = settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],  # shrinking a network takes minutes and tells little
    suppress_health_check=list(HealthCheck),
)
LONG = settings(QUICK, max_examples=400)
SEEDS = st.integers(0, 1000)
EXACT_NAMES = sorted(name for name, operator in OPERATORS.items() if operator.exact)


def conform(operator: Operator, graph: Graph, seed: int, pick: int) -> None:
    """All checks of one operator at one of its sites on a graph."""
    network, sites = make_network(graph, seed), operator.sites(graph)
    if sites:
        case = Case(operator, network, sites[pick % len(sites)], seed)
        for check in CHECKS.values():
            check(case)


@pytest.mark.parametrize("name", sorted(OPERATORS))
@given(graph=graphs(), seed=SEEDS, pick=st.integers(0, 100))
@QUICK
def test_operator(name: str, graph: Graph, seed: int, pick: int) -> None:
    conform(OPERATORS[name], graph, seed, pick)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(OPERATORS))
@given(graph=graphs(), seed=SEEDS, pick=st.integers(0, 100))
@LONG
def test_operator_at_length(name: str, graph: Graph, seed: int, pick: int) -> None:
    conform(OPERATORS[name], graph, seed, pick)


@pytest.mark.parametrize("name", sorted(name for name, o in OPERATORS.items() if not (o.exact or o.needs_calibration)))
def test_compensation_helps(name: str) -> None:
    """On most random networks at least; inputs of noise leave a smaller kernel little to make up with."""
    ratios: list[float] = []

    @given(graph=graphs(), seed=SEEDS, pick=st.integers(0, 100))
    @settings(QUICK, max_examples=40)
    def compare(graph: Graph, seed: int, pick: int) -> None:
        network, sites = make_network(graph, seed), OPERATORS[name].sites(graph)
        if sites:
            case = Case(OPERATORS[name], network, sites[pick % len(sites)], seed)
            plain, entry = case.apply(calibrate=False), case.after.history[-1]
            if entry.compensated and entry.drift is not None:
                ratios.append(entry.drift / (drift(network, plain, case.calibration) + 1e-9))

    compare()
    if len(ratios) >= 10:
        assert sum(ratio <= 1.0 for ratio in ratios) >= 0.6 * len(ratios)
        assert statistics.fmean(math.log(ratio + 1e-9) for ratio in ratios) < math.log(0.98)


@given(graph=graphs(dropout=True), seed=SEEDS)
@QUICK
def test_sites_are_all_there_is(graph: Graph, seed: int) -> None:
    network = make_network(graph, seed)
    for operator in OPERATORS.values():
        check_legality(operator, network)


@given(graph=graphs(dropout=True), seed=SEEDS, pick=st.integers(0, 100))
@QUICK
def test_with_dropout_the_function_is_kept_in_eval_mode(graph: Graph, seed: int, pick: int) -> None:
    network, inputs = make_network(graph, seed), make_inputs(graph, seed)
    for name in EXACT_NAMES:
        for site in OPERATORS[name].sites(graph)[pick % 3 :: 3]:
            after = OPERATORS[name].apply(network, site, generator=generator(seed))
            with torch.no_grad():
                assert relative(network.module().eval()(inputs), after.module().eval()(inputs)) <= EXACT, site


@given(graph=graphs(), seed=SEEDS)
@QUICK
def test_permuting_coupled_channels_changes_nothing(graph: Graph, seed: int) -> None:
    """The yardstick of float32 is sound."""
    network = make_network(graph, seed)
    check_exact(network, permuted(network, seed), make_inputs(graph, seed))


# ------------------------------------------------------------------------------------------------------- sequences


def run_sequence(graph: Graph, seed: int, picks: list[int], names: list[str]) -> None:
    """Up to eight operators, one after the other; exact ones together keep the function."""
    start = make_network(graph, seed)
    current, inputs, calibration, sites = start, make_inputs(graph, seed), make_inputs(graph, seed + 1, n=24), []
    for pick in picks:
        offered = [site for name in names for site in OPERATORS[name].sites(current.graph)]
        if not offered or current.graph.n_params > 50_000:
            break
        sites.append(offered[pick % len(offered)])
        current = apply_sites(current, sites[-1:], generator=generator(pick), calibration=calibration)
    if all(OPERATORS[name].exact for name in names):
        check_exact(start, current, inputs)
    assert [applied.site for applied in current.history] == sites
    with torch.no_grad():
        assert current.module().eval()(inputs).isfinite().all()
    again = apply_sites(start, sites, generator=generator(0), calibration=calibration)
    assert again.graph == current.graph
    assert Network.from_bytes(current.to_bytes()).content_hash == current.content_hash


PICKS = st.lists(st.integers(0, 10_000), min_size=2, max_size=8)


@given(graph=graphs(), seed=SEEDS, picks=PICKS)
@QUICK
def test_sequences_of_exact_operators(graph: Graph, seed: int, picks: list[int]) -> None:
    run_sequence(graph, seed, picks, EXACT_NAMES)


@given(graph=graphs(), seed=SEEDS, picks=PICKS)
@QUICK
def test_sequences_of_all_operators(graph: Graph, seed: int, picks: list[int]) -> None:
    run_sequence(graph, seed, picks, sorted(OPERATORS))


@pytest.mark.slow
@given(graph=graphs(), seed=SEEDS, picks=PICKS)
@LONG
def test_sequences_at_length(graph: Graph, seed: int, picks: list[int]) -> None:
    run_sequence(graph, seed, picks, EXACT_NAMES)
    run_sequence(graph, seed, picks, sorted(OPERATORS))


@given(graph=graphs(), seed=SEEDS, picks=PICKS)
@QUICK
def test_edits_of_edited_networks_conform(graph: Graph, seed: int, picks: list[int]) -> None:
    """A layer that is zero, replicas that are not trained yet, a branch within a branch."""
    current = make_network(graph, seed)
    for k, pick in enumerate(picks):
        offered = [site for name in EXACT_NAMES for site in OPERATORS[name].sites(current.graph)]
        if not offered or current.graph.n_params > 50_000:
            return
        case = Case(OPERATORS[offered[pick % len(offered)].operator], current, offered[pick % len(offered)], seed)
        if k == len(picks) - 1:
            for name in ("check_function", "check_function_in_float32", "check_graph", "check_everything_learns"):
                CHECKS[name](case)
        current = case.after


# ------------------------------------------------------------------------------------------------- broken operators


def example() -> Graph:
    """A network on which each broken operator shows its fault at one of its sites."""
    b = Builder(1, 6, 6)
    for k, activation in ((1, "relu"), (2, "silu")):
        b.conv(8, id=f"conv{k}", bias=False)
        b.add("batch_norm2d", id=f"bn{k}")
        b.add(activation, id=f"act{k}")
    b.add("adaptive_avg_pool2d")
    b.add("flatten")
    b.add("linear", id="linear1", out_channels=10)
    return b.graph()


def faults(operator: Operator, check: str) -> int:
    """At how many of its sites an operator fails a check."""
    if check == "check_legality":
        with pytest.raises(AssertionError):
            check_legality(operator, make_network(example(), 0))
        return 1
    failed = 0
    for site in operator.sites(example()):
        try:
            CHECKS[check](Case(operator, make_network(example(), 0), site, 0))
        except AssertionError:
            failed += 1
    return failed


@pytest.mark.parametrize("operator", BROKEN, ids=lambda operator: type(operator).__name__)
def test_broken_operator_fails(operator: Operator) -> None:
    assert faults(operator, BROKEN[operator]) > 0


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_sound_operator_passes_at_every_site_of_the_same_network(name: str) -> None:
    assert {check: faults(OPERATORS[name], check) for check in CHECKS} == dict.fromkeys(CHECKS, 0)
    check_legality(OPERATORS[name], make_network(example(), 0))


def test_what_is_right_in_float64_only_is_told_apart() -> None:
    """The two tolerances are separate checks: neither covers for the other."""
    (loses,) = (operator for operator in BROKEN if type(operator).__name__ == "LosesDigits")
    case = Case(loses, make_network(example(), 0), loses.sites(example())[0], 0)
    check_function(case)
    with pytest.raises(AssertionError, match="in float32"):
        check_function_in_float32(case)


def test_every_check_finds_a_fault() -> None:
    assert set(BROKEN.values()) >= set(CHECKS) - {"check_round_trip"}
    assert drifts(make_network(example(), 0), make_network(example(), 1), make_inputs(example(), 0))["eval"] > 0.1
