"""Limits on networks that decisions make: what is legal can be completed, and of upper limits nothing is missed."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from rlnas.errors import ConfigError, LimitError
from rlnas.graph import Graph
from rlnas.spaces import Assignment, BuildSpace, Chain, Limits, NetworkSpace, Within
from rlnas.spaces.dearest import dearest_first
from rlnas.spaces.sampling import distinct_graphs
from rlnas.spaces.within import random_assignment

TINY = {"layers": 2, "kernels": (1, 3), "filters": (2, 4), "strides": (1, 2)}


def tiny(**sizes: Any) -> NetworkSpace:
    """A chain whose networks can all be made: 512 of them."""
    return NetworkSpace(Chain((1, 8, 8), 4, **TINY | sizes))


def every(networks: NetworkSpace) -> list[Assignment]:
    """All assignments."""
    return list(itertools.product(*(range(n) for n in networks.decisions.shape)))


def quantile(networks: NetworkSpace, cost: Callable[[Graph], float], share: float) -> int:
    return int(np.quantile([cost(networks.graph(a)) for a in every(networks)], share))


def macs(graph: Graph) -> float:
    return graph.macs


@pytest.mark.parametrize("share", [0.02, 0.2, 0.7])
@pytest.mark.parametrize("anchors", [False, True])
def test_what_is_legal_is_what_can_be_completed(share: float, anchors: bool) -> None:
    networks = tiny(anchors=anchors)
    within = Within(networks, Limits(macs=quantile(networks, macs, share)))
    inside = [a for a in every(networks) if within.meets(a)]
    begun = {a[:k] for a in every(networks) for k in range(len(a))}
    missed = 0
    for beginning in begun:
        can = {a[len(beginning)] for a in inside if a[: len(beginning)] == beginning}
        if not can:
            continue
        legal = set(np.flatnonzero(within.open_after(beginning)).tolist())
        assert legal <= can
        missed += len(can - legal)
    assert missed == 0


@pytest.mark.parametrize("limits", ["low", "between", "params", "memory"])
def test_no_legal_choice_leads_nowhere(limits: str) -> None:
    networks = tiny(layers=3, anchors=True)
    some = [networks.graph(networks.decisions.sample(np.random.default_rng(i))) for i in range(200)]
    sizes = sorted(graph.macs for graph in some)
    given = {
        "low": Limits(min_macs=sizes[-8]),
        "between": Limits(macs=sizes[60], min_macs=sizes[50]),
        "params": Limits(n_params=sorted(g.n_params for g in some)[4]),
        "memory": Limits(peak_memory_bytes=sorted(g.peak_memory_bytes for g in some)[8], macs=sizes[20]),
    }[limits]
    within, generator = Within(networks, given), np.random.default_rng(0)
    for _ in range(40):
        assert within.meets(random_assignment(within, generator))  # which needs a legal choice in every state


def test_what_is_legal_does_not_depend_on_what_was_asked_before() -> None:
    networks = tiny(layers=3, anchors=True)
    limits = Limits(macs=30_000)
    first, generator = Within(networks, limits), np.random.default_rng(0)
    asked = []
    for _ in range(30):
        begun: Assignment = ()
        while len(begun) < len(networks.decisions):
            legal = first.open_after(begun)
            asked.append((begun, legal))
            begun += (int(generator.choice(np.flatnonzero(legal))),)
    second = Within(networks, limits)
    assert all(np.array_equal(second.open_after(begun), legal) for begun, legal in reversed(asked))


def test_without_limits_all_is_legal_and_no_network_is_made() -> None:
    networks = tiny()
    within = Within(networks, Limits())
    assert within.share == 1.0 and within.open_after(()).all() and not networks._graphs


def test_the_share_is_near_what_counting_gives() -> None:
    networks = tiny()
    within = Within(networks, Limits(macs=quantile(networks, macs, 0.3)))
    counted = np.mean([within.meets(a) for a in every(networks)])
    assert abs(within.share - counted) < 4 * (0.3 * 0.7 / 128) ** 0.5


def test_a_limit_that_nothing_meets_is_an_error_at_once() -> None:
    networks = tiny()
    least = min(networks.graph(a).macs for a in every(networks))
    Within(networks, Limits(macs=least))
    with pytest.raises(LimitError, match=f"macs={least:,}"):
        Within(networks, Limits(macs=least - 1))
    with pytest.raises(LimitError):
        Within(networks, Limits(macs=least - 1), enforced=False)


def test_random_networks_within_limits_are_drawn_evenly() -> None:
    networks = tiny(anchors=False)
    within = Within(networks, Limits(macs=quantile(networks, macs, 0.1)))
    inside = [a for a in every(networks) if within.meets(a)]
    drawn = [within.sample(generator) for generator in [np.random.default_rng(0)] for _ in range(100 * len(inside))]
    counts = np.array([drawn.count(a) for a in inside])
    assert counts.sum() == len(drawn)
    assert ((counts - 100) ** 2 / 100).sum() < len(inside) + 5 * (2 * len(inside)) ** 0.5  # chi-square
    with pytest.raises(LimitError, match="too few"):
        within.sample(np.random.default_rng(0), tries=0)


@pytest.mark.parametrize("cost", ["macs", "n_params"])
def test_the_largest_come_first(cost: str) -> None:
    networks = tiny()
    space = BuildSpace(networks, Limits(macs=quantile(networks, macs, 0.5)))
    given = [networks.graph(a) for a in dearest_first(space, cost)]
    keys = {networks.graph(a).key for a in every(networks) if space.within.meets(a)}
    assert {g.key for g in given} == keys and len(given) == len(keys)  # all of them, each once
    best = max(getattr(networks.graph(a), cost) for a in every(networks) if space.within.meets(a))
    assert getattr(given[0], cost) == best
    with pytest.raises(ConfigError, match="cost"):
        dearest_first(space, "weight")


def test_random_episodes_keep_limits() -> None:
    networks = tiny(layers=3)
    space = BuildSpace(networks, Limits(macs=20_000))
    found = distinct_graphs(space, 20, seed=0)
    assert len({g.key for g in found}) == 20 and all(g.macs <= 20_000 for g in found)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ConfigError, match="form"):
        BuildSpace(tiny(), form="bild")
    with pytest.raises(ConfigError, match="max_steps"):
        BuildSpace(tiny(), max_steps=2)
    with pytest.raises(ConfigError, match="does nothing"):
        BuildSpace(tiny(), enforce="reject")
    with pytest.raises(ConfigError, match="way to enforce"):
        BuildSpace(tiny(), Limits(macs=30_000), enforce="hope")
    with pytest.raises(LimitError, match="changes of the reference"):
        BuildSpace(tiny(), Limits(macs=1_000), form="edit", max_steps=1)
