"""Rewards that depend on what was evaluated before."""

from __future__ import annotations

import json
import random

import pytest

from rlnas.report import Point, Ranges, relative_hypervolume
from rlnas.rewards import REWARDS, Facts, History, Reference, Reward, make_reward

START = Reference(accuracies=(0.88, 0.92), latency_ms=0.2, n_params=1_000, macs=50_000)


def network(accuracy: float, macs: int = 50_000) -> Facts:
    return Facts(accuracy, None, 1_000, macs)


def paid(reward: Reward, networks: list[Facts | None], history: History | None = None) -> list[float]:
    """What a search is paid for networks one after another."""
    history = History() if history is None else history
    found = []
    for one in networks:
        found.append(reward(one, history))
        history.add(reward.facts(one))
    return found


def random_networks(count: int, seed: int) -> list[Facts | None]:
    chance = random.Random(seed)
    return [
        network(round(chance.uniform(0.7, 1.0), 2), chance.randrange(10_000, 200_000))
        if chance.random() < 0.9
        else None
        for _ in range(count)
    ]


def test_rank() -> None:
    reward = make_reward("rank", reference=START, cost="macs")
    networks = [network(a) for a in (0.5, 0.9, 0.1, 0.5)]
    # first of one; second of two, above one; third below two; fourth equal to one, above one, below one
    assert paid(reward, [*networks, None, network(0.95)]) == pytest.approx(
        [0.0, 1.5 / 2 - 0.5, 0.5 / 3 - 0.5, (1 + 1) / 4 - 0.5, -0.5, 4.5 / 5 - 0.5]
    )
    assert reward(network(0.5)) == pytest.approx(0.5)  # by itself: the reward that it ranks by


def test_rank_by_another_reward() -> None:
    by_error = make_reward("rank", reference=START, cost="macs", options={"of": "amc_error"})
    by_cost = make_reward("rank", reference=START, cost="macs", options={"of": "mnasnet_hard"})
    networks = [network(0.9, 50_000), network(0.91, 100_000)]
    assert paid(by_error, list(networks))[1] == 0.25
    assert paid(by_cost, list(networks))[1] == -0.25


def test_rank_is_that_of_counting() -> None:
    reward = make_reward("rank", reference=START, cost="macs")
    networks = random_networks(200, 0)
    got = paid(reward, networks)
    for i, one in enumerate(networks):
        earlier = [reward(n) for n in networks[:i] if n is not None]
        if one is not None:
            below = sum(v < reward(one) for v in earlier)
            equal = sum(v == reward(one) for v in earlier) + 1
            assert got[i] == pytest.approx((below + equal / 2) / (len(earlier) + 1) - 0.5)


def test_hypervolume_gain_by_hand() -> None:
    reward = make_reward("hypervolume", reference=START, cost="macs")
    # ranges: accuracy 0.8 to 1, cost 5,000 to 500,000; the start at 0.9 and 50,000 covers 1/2 x 1/2
    networks = [network(0.95, 50_000), network(0.95, 50_000), network(0.9, 5_000), network(0.85, 50_000), None]
    assert paid(reward, [*networks, network(1.0, 500_000)]) == pytest.approx([1 / 8, 0.0, 1 / 4, 0.0, 0.0, 0.0])
    assert paid(reward, [network(1.0, 5_000)]) == pytest.approx([0.75])
    assert reward(network(0.95, 50_000)) == pytest.approx(1 / 8)


def test_hypervolume_gains_sum_up() -> None:
    reward = make_reward("hypervolume", reference=START, cost="macs")
    for seed in range(5):
        networks = random_networks(100, seed)
        points = [Point(0.9, 50_000), *(Point(n.accuracy, n.macs) for n in networks if n is not None)]
        ranges = Ranges.around(points[0])
        gained = relative_hypervolume(points, ranges=ranges) - relative_hypervolume(points[:1], ranges=ranges)
        rewards = paid(reward, networks)
        assert min(rewards) >= -1e-15 and sum(rewards) == pytest.approx(gained)


@pytest.mark.parametrize("name", REWARDS)
@pytest.mark.parametrize("stop", [0, 1, 17, 39])
def test_resumed_searches_are_paid_the_same(name: str, stop: int) -> None:
    options: dict[str, float] = {"target": 40_000.0} if REWARDS[name].aims else {}
    reward = make_reward(name, reference=START, cost="macs", **options)
    networks = random_networks(40, 1)
    undisturbed = paid(reward, networks)
    history = History()
    begun = paid(reward, networks[:stop], history)
    saved = json.loads(json.dumps(history.state()))
    paid(reward, networks[stop:], history)  # what is lost when the search is killed
    again = History.restored(saved)
    assert len(again) == stop
    assert begun + paid(reward, networks[stop:], again) == undisturbed
    by_itself = [reward(one) for one in networks]
    assert (undisturbed != by_itself) == reward.looks_back


def test_a_network_over_the_limit_leaves_no_trace_but_its_place() -> None:
    reward = make_reward("hypervolume", reference=START, cost="macs", max_latency_ms=0.1)
    history = History()
    slow, quick = Facts(0.95, 0.2, 1_000, 50_000), Facts(0.95, 0.1, 1_000, 50_000)
    assert paid(reward, [slow, quick, quick], history) == pytest.approx([0.0, 1 / 8, 0.0])
    assert len(history) == 3
