"""Properties that hold for every registered reward, and the numbers of those that multiply powers of costs."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlnas.errors import ConfigError
from rlnas.rewards import COSTS, REWARDS, History, Measured, Reference, Reward, make_reward, tangent


@dataclass(frozen=True)
class Metrics:
    accuracy: float = 0.9
    latency_ms: float | None = 0.2
    n_params: int = 1_000
    macs: int = 50_000


START = Reference(accuracies=(0.90, 0.94, 0.92, 0.93, 0.95), latency_ms=0.2, n_params=1_000, macs=50_000)
HALF = Reference(accuracies=(0.5,), latency_ms=0.2, n_params=1_000, macs=50_000)  # tan(pi/4) = 1


STEPS = ("n2n", "hypervolume")
"""Rewards that fall by a step: at the target when the schedule has ended, and at the limit on latency."""


def every_reward(reference: Reference = START, *, without: tuple[str, ...] = ()) -> list[Reward]:
    """Each reward with each cost, with and without a target and a limit."""
    rewards = []
    for name in [name for name in REWARDS if name not in without]:
        for cost in COSTS:
            if name == "amc_cost" and cost == "latency_ms":
                continue
            target: dict[str, Any] = {"target_ms": 0.3} if cost == "latency_ms" else {"target": 7_000.0}
            for options in [{}, target] if REWARDS[name].aims else [{}]:
                rewards.append(make_reward(name, reference=reference, cost=cost, **options))
                rewards.append(make_reward(name, reference=reference, cost=cost, max_latency_ms=0.25, **options))
    return rewards


def histories(reward: Reward) -> list[History | None]:
    """No history, an empty one, and one of a few networks and a failure."""
    some = [reward.facts(Metrics(a, 0.1 + a / 10, int(1_000 * a), int(40_000 * a))) for a in (0.93, 0.9, 0.96)]
    return [None, History(), History([*some, None])]


def with_cost(metrics: Metrics, reward: Reward, cost: float) -> Metrics:
    changed: dict[str, Any] = {reward.cost: cost}
    return replace(metrics, **changed)


def test_tangent_numbers() -> None:
    reward = make_reward(reference=HALF)
    assert reward(Metrics(0.5)) == pytest.approx(1.0, abs=1e-12)
    # tan(pi/2 * 2/3) = tan(60 degrees) = sqrt(3)
    assert reward(Metrics(2 / 3)) == pytest.approx(math.sqrt(3), abs=1e-12)
    # twice the start network's latency costs the factor 2 ** -0.07 = 0.95264
    assert reward(Metrics(2 / 3, latency_ms=0.4)) == pytest.approx(1.650015, abs=1e-5)
    assert reward(Metrics(2 / 3, latency_ms=0.1)) == pytest.approx(1.818163, abs=1e-5)


def test_tangent_is_relative_to_the_mean_of_the_tangents() -> None:
    reference = Reference(accuracies=(1 / 2, 2 / 3, 1 / 3), latency_ms=None, n_params=1, macs=100)
    # (1 + sqrt 3 + 1 / sqrt 3) / 3 = 1.103134
    reward = make_reward(reference=reference, cost="macs")
    assert reward(Metrics(0.5, macs=100)) == pytest.approx(1 / 1.1031336, abs=1e-6)


def test_tangent_with_target_bends_at_the_target() -> None:
    reward = make_reward(reference=HALF, target_ms=0.1)
    assert reward(Metrics(0.5, latency_ms=0.1)) == pytest.approx(1.0)
    assert reward(Metrics(0.5, latency_ms=0.2)) == pytest.approx(0.5)
    assert reward(Metrics(0.5, latency_ms=0.05)) == pytest.approx(2**0.07)


def test_mnasnet_numbers() -> None:
    soft = make_reward("mnasnet_soft", reference=START, target_ms=0.1)
    assert soft(Metrics(0.8, latency_ms=0.2)) == pytest.approx(0.8 * 0.952638, abs=1e-6)
    assert soft(Metrics(0.8, latency_ms=0.05)) == pytest.approx(0.8 / 0.952638, abs=1e-6)
    hard = make_reward("mnasnet_hard", reference=START, target_ms=0.1)
    assert hard(Metrics(0.8, latency_ms=0.05)) == 0.8
    assert hard(Metrics(0.8, latency_ms=0.1)) == 0.8
    assert hard(Metrics(0.8, latency_ms=0.4)) == pytest.approx(0.2)


def test_mnasnet_without_target_uses_the_start_network() -> None:
    for cost, start in (("latency_ms", 0.2), ("macs", 50_000), ("n_params", 1_000)):
        reward = make_reward("mnasnet_hard", reference=START, cost=cost)
        assert reward.target == start
        assert reward(with_cost(Metrics(0.8), reward, 2 * start)) == pytest.approx(0.4)


def test_given_exponents() -> None:
    reward = make_reward("mnasnet_soft", reference=START, target_ms=0.1, options={"alpha": -0.5, "beta": -2})
    assert reward(Metrics(0.8, latency_ms=0.025)) == pytest.approx(1.6)
    assert reward(Metrics(0.8, latency_ms=0.2)) == pytest.approx(0.2)


def test_start_network_gets_one() -> None:
    reward = make_reward(reference=START)
    got = [reward(Metrics(accuracy)) for accuracy in START.accuracies]
    assert sum(got) / len(got) == pytest.approx(1.0)


def test_limit_on_latency() -> None:
    free = make_reward(reference=START)
    limited = make_reward(reference=START, max_latency_ms=0.25)
    within, over = Metrics(latency_ms=0.25), Metrics(latency_ms=0.5)
    assert limited(within) == free(within) and limited.feasible(within)
    assert limited(Metrics(latency_ms=0.05)) == free(Metrics(latency_ms=0.05))
    assert limited(over) == pytest.approx(free(over) / 2) and not limited.feasible(over)
    assert free.feasible(over)


def test_limit_on_latency_holds_when_another_cost_counts() -> None:
    reward = make_reward(reference=START, cost="macs", max_latency_ms=0.1)
    assert reward.needs_latency
    assert not reward.feasible(Metrics(latency_ms=0.2))
    assert reward(Metrics(latency_ms=0.2)) == pytest.approx(make_reward(reference=START, cost="macs")(Metrics()) / 2)


def test_failed_evaluation() -> None:
    for reward in every_reward():
        for failed in (None, Metrics(math.nan)):
            assert reward(failed) == reward(failed, History()) == reward.failure_reward
            assert reward.facts(failed) is None
            assert not reward.feasible(failed)
            vector = reward.vector(failed)
            assert all(math.isfinite(v) for v in vector.values()) and list(vector) == list(reward.vector(Metrics()))


def test_vector() -> None:
    assert make_reward(reference=START).vector(Metrics(0.7)) == {"accuracy": 0.7, "minus_latency_ms": -0.2}
    assert make_reward(reference=START, cost="macs").vector(Metrics(0.7))["minus_macs"] == -50_000


def test_reference_from_evaluations() -> None:
    metrics = [Metrics(0.9, latency_ms=0.2), Metrics(0.8, latency_ms=9.0), Metrics(0.7, latency_ms=0.3)]
    reference = Reference.from_metrics(metrics)
    assert reference == Reference(accuracies=(0.9, 0.8, 0.7), latency_ms=0.3, n_params=1_000, macs=50_000)
    assert Reference.from_metrics([Metrics(latency_ms=None)]).latency_ms is None


accuracies = st.floats(0, 1) | st.sampled_from([0.0, 0.999, math.nextafter(1, 0), 1.0])
costs = st.floats(min_value=5e-324, max_value=1e308)


@given(accuracy=accuracies, cost=costs, start=st.lists(accuracies, min_size=1, max_size=5))
def test_finite_everywhere(accuracy: float, cost: float, start: list[float]) -> None:
    for reward in every_reward(replace(START, accuracies=tuple(start))):
        for history in histories(reward):
            value = reward(with_cost(Metrics(accuracy), reward, cost), history)
            assert math.isfinite(value) and (value >= 0.0 or reward.formula.signed)


@given(low=accuracies, high=accuracies, cheap=costs, dear=costs)
def test_monotone(low: float, high: float, cheap: float, dear: float) -> None:
    low, high = sorted((low, high))
    cheap, dear = sorted((cheap, dear))
    for reward in every_reward():
        base = Metrics(low)
        for history in histories(reward):
            assert reward(replace(base, accuracy=high), history) >= reward(base, history) - 1e-12
            if reward.name != "tunas":  # which is paid for meeting the target
                less, more = (reward(with_cost(base, reward, cost), history) for cost in (dear, cheap))
                assert more >= less - 1e-9 * max(1.0, abs(less))


def test_strictly_better_is_paid_more() -> None:
    for name in REWARDS:
        reward = make_reward(name, reference=START, cost="macs")
        good = Metrics(0.97, macs=25_000)
        assert reward(replace(good, accuracy=0.98)) > reward(good), name
        if name != "amc_error":
            assert reward(replace(good, macs=150_000)) < reward(good), name


def test_not_singular_at_target_and_limit() -> None:
    for reward in every_reward(without=STEPS):
        for place in (reward.target, reward.max_latency_ms or reward.target):
            near = [reward(with_cost(Metrics(), reward, place * f)) for f in (1 - 1e-9, 1.0, 1 + 1e-9)]
            assert max(near) - min(near) <= 1e-6 * max(map(abs, near))


def test_over_the_limit_is_paid_less_or_the_least() -> None:
    for name in REWARDS:
        free, limited = (make_reward(name, reference=START, cost="macs", max_latency_ms=m) for m in (None, 0.25))
        within, over = Metrics(0.97, latency_ms=0.25, macs=25_000), Metrics(0.97, latency_ms=0.5, macs=25_000)
        assert limited(within) == free(within)
        assert limited(over) < free(over), name
        expected = 0.0 if name == "hypervolume" else free(over) / 2
        if REWARDS[name].signed:
            expected = free(over) - math.log(2)
        assert limited(over) == pytest.approx(expected), name
        assert limited.facts(over) is None


def test_a_start_network_that_is_never_right() -> None:
    reward = make_reward(reference=replace(START, accuracies=(0.0, 0.0)))
    assert 0 < reward(Metrics(0.5)) < math.inf


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "tangnet"}, ["tangnet", "'tangent'", "mnasnet_hard"]),
        ({"cost": "latency"}, ["'latency_ms'", "macs", "n_params"]),
        ({"cost": "macs", "target_ms": 0.2}, ["reward.target_ms", "macs", "reward.target"]),
        ({"target": 0.2}, ["reward.target", "reward.target_ms"]),
        ({"options": {"beta": -1.0}}, ["reward.options", "beta", "target"]),
        ({"target_ms": 0.0}, ["reward.target_ms", "above 0"]),
        ({"target_ms": math.inf}, ["reward.target_ms", "above 0"]),
        ({"max_latency_ms": math.nan}, ["reward.max_latency_ms", "above 0"]),
        ({"options": {"alpha": 0.07}}, ["reward.options", "alpha", "0 or less"]),
        ({"target_ms": 1.0, "options": {"beta": -math.inf}}, ["beta", "0 or less"]),
        ({"options": {"gamma": 1.0}}, ["'gamma'", "tangent", "alpha"]),
        ({"options": {"alpha": "much"}}, ["alpha", "a number"]),
        ({"options": {"alpha": True}}, ["alpha", "a number"]),
        ({"name": "amc_error", "options": {"alpha": -1}}, ["amc_error", "no options"]),
        ({"name": "amc_error", "target_ms": 1.0}, ["reward.target_ms", "amc_error", "no target"]),
        ({"name": "hypervolume", "cost": "macs", "target": 1.0}, ["reward.target", "no target"]),
        ({"name": "amc_cost"}, ["reward.cost", "macs"]),
        ({"name": "tunas", "options": {"beta": 0.1}}, ["beta", "0 or less"]),
        ({"name": "rena", "options": {"penalty": 1.0}}, ["penalty", "between 0 and 1"]),
        ({"name": "rena", "options": {"thresholds": 5}}, ["thresholds", "macs"]),
        ({"name": "rena", "options": {"thresholds": {"flops": 5}}}, ["'flops'", "macs"]),
        ({"name": "rena", "options": {"thresholds": {"macs": -5}}}, ["thresholds.macs", "above 0"]),
        ({"name": "rena", "cost": "macs", "options": {"thresholds": {"macs": 5}}}, ["thresholds", "reward.target"]),
        ({"name": "weighted_sum", "options": {"accuracy_weight": 0}}, ["accuracy_weight", "above 0"]),
        ({"name": "weighted_sum", "options": {"weights": {"macs": 1}}}, ["weights", "latency_ms"]),
        ({"name": "n2n", "options": {"iterations": 0}}, ["iterations", "at least 1"]),
        ({"name": "n2n", "options": {"rollouts": 2.5}}, ["rollouts", "whole number"]),
        ({"name": "n2n", "options": {"iterations": 5}}, ["iterations", "target"]),
        ({"name": "rank", "options": {"of": "tan"}}, ["'tan'", "tangent"]),
        ({"name": "rank", "options": {"of": "rank"}}, ["'rank'", "mnasnet_soft"]),
        ({"name": "rank", "options": {"of": 3}}, ["of=3", "a name"]),
        ({"name": "rank", "options": {"of": "amc_error"}, "target_ms": 1.0}, ["no target"]),
        (
            {
                "name": "rena",
                "cost": "macs",
                "options": {"thresholds": {"latency_ms": 1}},
                "reference": replace(START, latency_ms=None),
            },
            ["not measured"],
        ),
        ({"reference": replace(START, latency_ms=None)}, ["latency_ms", "not measured"]),
        ({"reference": replace(START, latency_ms=None), "cost": "macs", "max_latency_ms": 1.0}, ["not measured"]),
        ({"reference": replace(START, macs=0), "cost": "macs"}, ["start network", "macs", "0"]),
    ],
)
def test_bad_options(options: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        make_reward(**({"reference": START} | options))
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words)


def test_unmeasured_network_is_an_error_where_latency_counts() -> None:
    unmeasured: Measured = Metrics(latency_ms=None)
    with pytest.raises(ConfigError, match="latency_ms"):
        make_reward(reference=START)(unmeasured)
    assert make_reward(reference=START, cost="macs")(unmeasured) > 0


def test_tangent_is_clipped() -> None:
    assert tangent(1.0) == tangent(0.999) == pytest.approx(636.619, abs=1e-3)


def test_imports_no_torch() -> None:
    code = "import sys, rlnas.rewards; assert 'torch' not in sys.modules, 'torch'"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=Path(__file__).parents[2])
