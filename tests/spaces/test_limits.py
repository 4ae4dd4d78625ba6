"""Limits: their settings, and what they do to legality."""

from __future__ import annotations

import pytest

from rlnas.errors import ConfigError, LimitError, SpaceError
from rlnas.graph import Graph
from rlnas.layout import STOP
from rlnas.spaces import DEFAULT_VARIANTS, Limits, MorphSpace, Variant, conv_stages


@pytest.fixture
def start() -> Graph:
    return conv_stages((1, 8, 8), 10)


@pytest.mark.parametrize(
    ("setting", "value"), [(5000, 5000), ("5000", 5000), ("2x", 2724), ("50%", 681), ("1e4", 10000), (None, None)]
)
def test_settings(start: Graph, setting: int | str | None, value: int | None) -> None:
    assert start.n_params == 1362
    assert Limits.resolve(start, max_params=setting).n_params == value


@pytest.mark.parametrize("setting", ["fast", "", "x", "-3", 0, -1, "0x", "1.2.3x", float("inf"), float("nan"), "4 y"])
def test_bad_settings(start: Graph, setting: int | str) -> None:
    with pytest.raises(ConfigError, match="max_macs") as caught:
        Limits.resolve(start, max_macs=setting)
    assert "\n" not in str(caught.value)


def test_only_edits_within_the_limits_are_legal(start: Graph) -> None:
    free = MorphSpace(start, DEFAULT_VARIANTS)
    tight = MorphSpace(start, DEFAULT_VARIANTS, limits=Limits(macs=int(1.3 * start.macs)))
    legal = tight.legal(start, steps_left=6)
    everything = free.legal(start, steps_left=6)
    assert legal.stop
    assert set(legal.sites) < set(everything.sites)
    for action, site in everything.sites.items():
        assert (free.edited(start, site).macs <= 1.3 * start.macs) == (action in legal.sites)


def test_start_over_the_limit_shrinks_in_time(start: Graph) -> None:
    space = MorphSpace(start, DEFAULT_VARIANTS, max_steps=3, limits=Limits(n_params=700))
    graph, steps = start, 3
    assert not space.legal(graph, steps_left=3).stop
    while not space.limits.met_by(graph):
        legal = space.legal(graph, steps_left=steps)
        assert STOP not in legal.actions and legal.sites
        graph, steps = space.edited(graph, next(iter(legal.sites.values()))), steps - 1
    assert steps >= 0 and space.legal(graph, steps_left=steps).stop


def test_impossible_limit_says_so_with_figures(start: Graph) -> None:
    with pytest.raises(LimitError, match=r"n_params <= 20.*n_params=1,362.*smallest found") as caught:
        MorphSpace(start, DEFAULT_VARIANTS, limits=Limits(n_params=20))
    assert "\n" not in str(caught.value)
    with pytest.raises(LimitError):
        MorphSpace(start, (Variant("widen", 2.0),), limits=Limits(macs=start.macs - 1))


def test_more_nodes_than_slots(start: Graph) -> None:
    with pytest.raises(SpaceError, match="max_nodes=5"):
        MorphSpace(start, DEFAULT_VARIANTS, max_nodes=5)
    space = MorphSpace(start, DEFAULT_VARIANTS, max_nodes=len(start) + 1)
    for site in space.legal(start, steps_left=6).sites.values():
        assert len(space.edited(start, site)) <= len(start) + 1


def test_no_steps_left_means_stop(start: Graph) -> None:
    assert MorphSpace(start, DEFAULT_VARIANTS).legal(start, steps_left=0).actions == (STOP,)


def test_isomorphic_graphs_have_the_same_actions(start: Graph) -> None:
    space = MorphSpace(start, DEFAULT_VARIANTS)
    data = start.to_json()
    text = str(data).replace("conv1", "stem")
    renamed = Graph.from_json(eval(text))
    assert renamed.key == start.key
    assert space.legal(renamed, steps_left=6).actions == space.legal(start, steps_left=6).actions


def test_start_networks() -> None:
    graph = conv_stages((3, 32, 32), 7, stages=4, width=16)
    assert graph.output_shape == (7,)
    with pytest.raises(SpaceError, match="stages"):
        conv_stages((1, 4, 4), 10, stages=4)
    with pytest.raises(SpaceError, match="at least 1"):
        conv_stages((1, 8, 8), 10, width=0)
    with pytest.raises(SpaceError, match="does not fit"):
        conv_stages((8,), 10)
