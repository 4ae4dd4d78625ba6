"""Hand-computed numbers of the rewards that published systems use."""

from __future__ import annotations

import math

import pytest

from rlnas.rewards import Facts, History, Reference, make_reward

START = Reference(accuracies=(0.8,), latency_ms=0.2, n_params=1_000, macs=50_000)


def network(accuracy: float, *, latency_ms: float = 0.2, n_params: int = 1_000, macs: int = 50_000) -> Facts:
    return Facts(accuracy, latency_ms, n_params, macs)


def test_proxylessnas() -> None:
    reward = make_reward("proxylessnas", reference=START, target_ms=0.1)
    assert reward(network(0.8, latency_ms=0.1)) == pytest.approx(0.8)
    assert reward(network(0.8, latency_ms=0.2)) == pytest.approx(0.8 * 0.9330330, abs=1e-6)  # 2 ** -0.1
    assert reward(network(0.8, latency_ms=0.05)) == pytest.approx(0.8 * 1.0717735, abs=1e-6)


def test_tunas() -> None:
    reward = make_reward("tunas", reference=START, target_ms=0.1)
    assert reward(network(0.8, latency_ms=0.1)) == pytest.approx(0.8)
    assert reward(network(0.8, latency_ms=0.2)) == pytest.approx(0.7)  # 0.8 - 0.1 * |2 - 1|
    assert reward(network(0.8, latency_ms=0.05)) == pytest.approx(0.75)  # 0.8 - 0.1 * |1/2 - 1|
    steeper = make_reward("tunas", reference=START, target_ms=0.1, options={"beta": -0.4})
    assert steeper(network(0.8, latency_ms=0.2)) == pytest.approx(0.4)


def test_amc() -> None:
    assert make_reward("amc_error", reference=START)(network(0.7)) == pytest.approx(-0.3)
    flops = make_reward("amc_cost", reference=START, cost="macs")
    assert flops(network(0.7, macs=22_026)) == pytest.approx(-0.3 * 10.0, abs=1e-4)  # ln 22,026 = 9.99998
    params = make_reward("amc_cost", reference=START, cost="n_params")
    assert params(network(0.7, n_params=148)) == pytest.approx(-0.3 * 4.997212, abs=1e-6)
    assert flops(None) == pytest.approx(-math.log(50_000))


def test_n2n_without_a_constraint() -> None:
    reward = make_reward("n2n", reference=START, cost="n_params")
    # a quarter of the parameters: C = 3/4, C (2 - C) = 15/16
    assert reward(network(0.8, n_params=250)) == pytest.approx(0.9375)
    assert reward(network(0.4, n_params=250)) == pytest.approx(0.46875)
    assert reward(network(0.8)) == reward(network(0.8, n_params=2_000)) == 0.0
    assert reward(None) == -1.0


def test_n2n_constraint_hardens_and_stays_hard() -> None:
    reward = make_reward("n2n", reference=START, cost="n_params", target=200.0)
    over, within = network(0.8, n_params=250), network(0.8, n_params=200)
    # e = (1 - t / 15) ** 4, paid (e - 1) + e * 0.9375, with 5 evaluations to one t
    for evaluations, e in ((0, 1.0), (4, 1.0), (25, 16 / 81), (50, 1 / 81), (75, 0.0), (150, 0.0), (1_000, 0.0)):
        paid = reward(over, History([None] * evaluations))
        assert paid == pytest.approx(e - 1 + e * 0.9375), evaluations
        assert reward(within, History([None] * evaluations)) == pytest.approx(0.96)
    assert reward(over) == -1.0
    quicker = make_reward(
        "n2n", reference=START, cost="n_params", target=200.0, options={"iterations": 2, "rollouts": 10}
    )
    assert quicker(over, History([None] * 10)) == pytest.approx(1 / 16 - 1 + 0.9375 / 16)


def test_rena() -> None:
    reward = make_reward("rena", reference=START, cost="macs", target=10_000, options={"penalty": 0.25})
    assert reward(network(0.8, macs=10_000)) == reward(network(0.8, macs=1)) == 0.8
    assert reward(network(0.8, macs=20_000)) == pytest.approx(0.2)  # a violation of 1
    assert reward(network(0.8, macs=15_000)) == pytest.approx(0.4)  # of 1/2
    several = make_reward(
        "rena",
        reference=START,
        cost="macs",
        target=10_000,
        options={"thresholds": {"n_params": 500, "latency_ms": 0.1}},
    )
    assert several.needs_latency
    assert several(network(0.8, macs=20_000, n_params=1_000, latency_ms=0.3)) == pytest.approx(0.8 * 0.5**4)
    assert several(network(0.8, macs=1, n_params=1, latency_ms=0.1)) == pytest.approx(0.8)


def test_weighted_sum() -> None:
    reward = make_reward("weighted_sum", reference=START, cost="macs", target=10_000)
    assert reward(network(0.8, macs=20_000)) == pytest.approx(0.75)
    assert reward(network(0.8, macs=5_000)) == pytest.approx(0.85)
    both = make_reward(
        "weighted_sum",
        reference=START,
        cost="macs",
        options={"accuracy_weight": 2.0, "weights": {"macs": 0.1, "n_params": 0.5}},
    )
    assert not both.needs_latency
    # 1.6 - 0.1 * log2(100,000 / 50,000) - 0.5 * log2(250 / 1,000), both relative to the start network
    assert both(network(0.8, macs=100_000, n_params=250)) == pytest.approx(1.6 - 0.1 + 1.0)
