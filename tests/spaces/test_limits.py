"""Limits: their settings, and what they do to legality."""

from __future__ import annotations

import pickle
import random

import pytest

from rlnas.errors import ConfigError, LimitError, SpaceError
from rlnas.graph import Graph
from rlnas.layout import STOP
from rlnas.spaces import DEFAULT_VARIANTS, Limits, MorphSpace, Variant, conv_stages


@pytest.fixture
def start() -> Graph:
    return conv_stages((1, 8, 8), 10)


@pytest.mark.parametrize(
    ("setting", "value"),
    [(5000, 5000), ("5000", 5000), ("2x", 2724), ("50%", 681), ("150%", 2043), ("1e4", 10000), (None, None)],
)
def test_settings(start: Graph, setting: int | str | None, value: int | None) -> None:
    assert start.n_params == 1362
    assert Limits.resolve(start, max_params=setting).n_params == value


@pytest.mark.parametrize(
    "setting", ["fast", "", "x", "-3", 0, -1, "0x", "1.2.3x", float("inf"), float("nan"), "4 y", "1e999"]
)
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
    with pytest.raises(LimitError, match=r"n_params <= 20.*n_params=1,362.*nearest found") as caught:
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


def predict(graph: Graph) -> float:
    """A latency that grows with nodes and MACs."""
    return 1e-3 * len(graph) + 1e-7 * graph.macs


def test_limits_of_all_kinds_at_once(start: Graph) -> None:
    limits = Limits.resolve(
        start,
        predict=predict,
        max_params="2x",
        min_params="50.01%",
        max_macs=20_000,
        max_predicted_ms="120%",
        min_predicted_ms=0.001,
        max_memory_bytes="4x",
        min_memory_bytes=1,
    )
    assert (limits.n_params, limits.min_n_params) == (2_724, 682)  # 681.1 parameters are not enough
    assert (limits.macs, limits.min_macs) == (20_000, None)
    assert limits.latency_ms == pytest.approx(1.2 * predict(start)) and limits.min_latency_ms == 0.001
    assert limits.peak_memory_bytes == 4 * start.peak_memory_bytes
    assert limits.excess(start) == pytest.approx(max(1 / 1.2, 16_208 / 20_000, 682 / 1_362))
    for words in ("n_params >= 682 and n_params <= 2,724", "macs <= 20,000", "predicted latency_ms >= 0.001"):
        assert words in str(limits)
    assert "macs >=" not in str(limits)


@pytest.mark.parametrize(
    ("limits", "excess"),
    [
        (Limits(macs=8_104), 2.0),
        (Limits(min_macs=48_624), 3.0),
        (Limits(macs=32_416, min_macs=16_208), 1.0),
        (Limits(n_params=681, min_macs=48_624), 3.0),
        (Limits(n_params=227, min_macs=48_624), 6.0),
    ],
)
def test_excess_is_the_worst_ratio(start: Graph, limits: Limits, excess: float) -> None:
    assert start.macs == 16_208
    assert limits.excess(start) == pytest.approx(excess)
    assert limits.met_by(start) == (excess <= 1)


@pytest.mark.parametrize(
    "setting",
    [{"min_macs": "2x", "max_macs": "1x"}, {"min_params": 5_000, "max_params": "2x"}, {"min_memory_bytes": "0x"}],
)
def test_limits_that_leave_nothing_between(start: Graph, setting: dict[str, str | int]) -> None:
    with pytest.raises(ConfigError, match=r"nothing lies between them|is not a limit") as caught:
        Limits.resolve(start, **setting)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def play(space: MorphSpace, chance: random.Random) -> list[Graph]:
    """The graphs of one random episode, which must end within the limits."""
    graphs = [space.start]
    for left in range(space.max_steps, 0, -1):
        legal = space.legal(graphs[-1], steps_left=left)
        assert legal.stop == space.limits.met_by(graphs[-1])
        action = chance.choice(legal.actions)
        if action == STOP:
            break
        graphs.append(space.edited(graphs[-1], legal.sites[action]))
    assert space.limits.met_by(graphs[-1])
    return graphs


def test_start_under_a_lower_limit_grows_in_time(start: Graph) -> None:
    limits = Limits(min_macs=3 * start.macs, macs=4 * start.macs, min_n_params=2 * start.n_params)
    space = MorphSpace(start, DEFAULT_VARIANTS, max_steps=3, limits=limits)
    chance = random.Random(0)
    for _ in range(3):
        graphs = play(space, chance)
        assert graphs[1].macs >= start.macs and graphs[1].n_params >= start.n_params
    with pytest.raises(LimitError, match=r"macs >= 162,080.*nearest found has"):
        MorphSpace(start, (Variant("prune_channels", 0.5),), limits=Limits(min_macs=10 * start.macs))


def test_under_one_limit_and_over_another(start: Graph) -> None:
    limits = Limits(n_params=start.n_params - 1, min_peak_memory_bytes=start.peak_memory_bytes + 1)
    space = MorphSpace(start, DEFAULT_VARIANTS, max_steps=3, limits=limits)
    chance = random.Random(0)
    for _ in range(3):
        play(space, chance)


def test_masks_do_not_depend_on_what_was_asked_before(start: Graph) -> None:
    limits = Limits(n_params=900, macs=9_000, min_n_params=500)
    spaces = [MorphSpace(start, DEFAULT_VARIANTS, max_steps=4, limits=limits) for _ in range(2)]
    chance = random.Random(0)
    visited = [graph for _ in range(2) for graph in play(spaces[0], chance)]
    spaces.append(pickle.loads(pickle.dumps(spaces[0])))
    for graph in reversed(visited):
        for left in (1, 4, 2):
            first, *others = [space.legal(graph, steps_left=left) for space in spaces]
            assert all(other == first for other in others)


def test_narrow_limits_are_left_where_there_is_a_way_back(start: Graph) -> None:
    band = Limits(macs=start.macs, min_macs=start.macs, n_params=start.n_params, min_n_params=start.n_params)
    space = MorphSpace(start, (Variant("widen", 2.0), Variant("prune_channels", 0.5)), max_steps=4, limits=band)
    assert space.legal(start, steps_left=1).actions == (STOP,)
    legal = space.legal(start, steps_left=2)
    assert legal.stop and legal.sites
    chance = random.Random(0)
    lengths = [len(play(space, chance)) for _ in range(20)]
    assert max(lengths) > 2


def test_limits_that_are_not_enforced_by_the_mask(start: Graph) -> None:
    limits = Limits(macs=start.macs // 2)
    masked, free = MorphSpace(start, DEFAULT_VARIANTS, limits=limits), MorphSpace(start, DEFAULT_VARIANTS)
    for enforce in ("reject", "penalty"):
        space = MorphSpace(start, DEFAULT_VARIANTS, limits=limits, enforce=enforce)
        assert space.legal(start, steps_left=6) == free.legal(start, steps_left=6)
        assert set(space.legal(start, steps_left=6).sites) > set(masked.legal(start, steps_left=6).sites)
        with pytest.raises(ConfigError, match="does nothing without a limit"):
            MorphSpace(start, DEFAULT_VARIANTS, enforce=enforce)
        with pytest.raises(LimitError):
            MorphSpace(start, DEFAULT_VARIANTS, limits=Limits(n_params=20), enforce=enforce)
    with pytest.raises(ConfigError, match=r"'masks'.*'mask'"):
        MorphSpace(start, DEFAULT_VARIANTS, limits=limits, enforce="masks")
