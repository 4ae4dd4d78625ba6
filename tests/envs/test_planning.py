"""What is known of networks before any is evaluated: the largest first, and uniformly random ones."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pytest

from rlnas.envs import EpisodeVecEnv, TableProblem, make_problem
from rlnas.envs.planning import largest_first, sample_feasible
from rlnas.errors import ConfigError
from rlnas.graph import Graph
from rlnas.spaces import DecisionSpace, MorphSpace, largest
from tests.envs.fakes import fake_problem

SPACE = DecisionSpace.of({"a": (0, 1, 2), "b": (0, 1), "c": (0, 1, 2, 3)})
GENERATOR = np.random.default_rng(0)
SIZES = GENERATOR.permutation(24).reshape(SPACE.shape) // 2  # each twice
ALLOWED = SIZES < 9


def table(**rest: Any) -> TableProblem:
    return TableProblem(SPACE, SIZES / 24, allowed=ALLOWED, columns={"macs": SIZES}, **rest)


def chosen(plan: tuple[int, ...]) -> tuple[int, ...]:
    pairs = [SPACE.layout.slot_and_variant(action) for action in plan]
    assert [slot for slot, _ in pairs] == [0, 1, 2]
    return tuple(choice for _, choice in pairs)


def test_a_table_from_the_largest_on() -> None:
    plans = list(largest_first(table(), "macs"))
    sizes = [int(SIZES[chosen(plan)]) for plan in plans]
    assert sizes == sorted(sizes, reverse=True) == sorted(SIZES[ALLOWED].tolist(), reverse=True)
    assert len({*plans}) == len(plans) == ALLOWED.sum()
    other = list(largest_first(table(), "macs", 1))
    assert other != plans and sorted(other) == sorted(plans)  # chance decides between equals
    assert plans == list(largest_first(table(), "macs", 0))


def test_each_network_of_a_table_is_as_likely_as_any_other() -> None:
    generator = np.random.default_rng(0)
    drawn = [chosen(sample_feasible(table(), generator)) for _ in range(4000)]
    counts = {plan: drawn.count(plan) for plan in drawn}
    expected = 4000 / ALLOWED.sum()
    assert len(counts) == ALLOWED.sum() and all(ALLOWED[plan] for plan in counts)
    assert max(abs(n - expected) for n in counts.values()) < 5 * expected**0.5


def graph_after(space: MorphSpace, plan: tuple[int, ...]) -> Graph:
    graph = space.start
    for step, action in enumerate(plan):
        graph = space.edited(graph, space.legal(graph, steps_left=space.max_steps - step).sites[action])
    return graph


@pytest.mark.parametrize("cost", ["macs", "n_params"])
def test_edited_networks_from_the_largest_on(cost: str) -> None:
    problem = fake_problem()
    space = problem.space
    plans = list(islice(largest_first(problem, cost), 12))
    graphs = [graph_after(space, plan) for plan in plans]
    assert len({graph.key for graph in graphs}) == 12
    assert all(space.limits.met_by(graph) for graph in graphs)
    sizes = [getattr(graph, cost) for graph in graphs]
    assert sizes == sorted(sizes, reverse=True)
    random = [graph_after(space, random_plan(space, seed)) for seed in range(40)]
    assert min(sizes) > max(getattr(graph, cost) for graph in random) > getattr(space.start, cost)


def test_a_small_space_of_edits_is_gone_through_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a beam of one it has to begin anew; in the end it has given every network once."""
    problem = fake_problem(max_steps=2, variants=["widen 2", "remove_layer 1"])
    space = problem.space
    every = {space.start.key: space.start}
    for _ in range(2):
        for graph in list(every.values()):
            every |= {after.key: after for after in after_one(space, graph)}
    for width in (largest.WIDTH, 1):
        monkeypatch.setattr(largest, "WIDTH", width)
        plans = [*largest_first(problem, "macs")]
        assert sorted(graph_after(space, plan).key for plan in plans) == sorted(every)


def after_one(space: MorphSpace, graph: Graph) -> list[Graph]:
    return [space.edited(graph, site) for site in space.legal(graph, steps_left=1).sites.values()]


def random_plan(space: MorphSpace, seed: int) -> tuple[int, ...]:
    generator, graph, plan = np.random.default_rng(seed), space.start, []
    for step in range(space.max_steps):
        sites = space.legal(graph, steps_left=space.max_steps - step).sites
        plan.append(int(generator.choice([*sites])))
        graph = space.edited(graph, sites[plan[-1]])
    return tuple(plan)


def test_from_the_environment() -> None:
    env = EpisodeVecEnv(table(), n_envs=3)
    (plans,) = env.env_method("largest_first", "macs", 0, indices=[0])
    assert list(plans) == list(largest_first(table(), "macs"))
    assert len(env.env_method("sample_feasible", np.random.default_rng(0))) == 3
    with pytest.raises(AttributeError, match="only action_masks, largest_first, sample_feasible"):
        env.env_method("smallest_first")


@pytest.mark.parametrize(
    ("problem", "cost", "match"),
    [
        (table(), "mac", "unknown column of the table 'mac'. Did you mean 'macs'"),
        (table(form="edit", start={"a": 0, "b": 1, "c": 0}, max_steps=3), "macs", "one after the other"),
        (fake_problem(), "latency_ms", "unknown cost 'latency_ms'"),
    ],
    ids=["column", "edit", "morph"],
)
def test_what_is_not_known(problem: Any, cost: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        largest_first(problem, cost)


def test_edited_networks_are_not_counted() -> None:
    with pytest.raises(ConfigError, match="a random network of all is known beforehand only where"):
        sample_feasible(make_problem("digits"), np.random.default_rng(0))
