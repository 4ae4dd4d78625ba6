"""Tables that pay at every step: the returns stay, and a step is paid by what stopping after it would be worth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from rlnas.envs import BuildEnv, EpisodeEnv, EpisodeVecEnv, NASBench201Env, TableProblem, make_nas_bench_201
from rlnas.envs.shaping import TablePotential
from rlnas.errors import ConfigError
from rlnas.layout import STOP
from rlnas.spaces.nas_bench_201 import CELL_OPS
from tests.envs.tables import SPACE, table
from tests.evaluation.test_cell_table import write

WORTH = np.random.default_rng(9).normal(size=SPACE.shape)
START = {"depth": 2, "width": "wide", "kernel": 7, "skip": 1}
PAID: dict[str, dict[str, Any]] = {
    "cost": {"step_reward": "cost", "cost_scores": WORTH},
    "evaluated": {"step_reward": "evaluated"},
}
FORMS: dict[str, dict[str, Any]] = {"build": {}, "edit": {"form": "edit", "share": 1}}
forms, kinds = pytest.mark.parametrize("form", FORMS), pytest.mark.parametrize("kind", PAID)


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    return write(tmp_path / "nasbench201.npz")


def episode(env: EpisodeEnv, rng: np.random.Generator, *, illegal: float = 0.2) -> list[tuple[float, dict[str, Any]]]:
    """Reward and info of each step of a random episode, some of its actions illegal."""
    env.reset(seed=0)
    steps, ended = [], False
    while not ended:
        legal = np.flatnonzero(env.action_masks())
        action = rng.integers(env.action_space.n) if rng.random() < illegal else rng.choice(legal)
        _, reward, ended, _, info = env.step(np.int64(action))
        steps.append((reward, info))
    return steps


@forms
@kinds
@pytest.mark.parametrize("discount", [None, 0.9])
def test_the_discounted_return_is_that_of_the_end_alone(form: str, kind: str, discount: float | None) -> None:
    env = BuildEnv(problem=table(**FORMS[form], **PAID[kind], start=START, discount=discount))
    rng, gamma, moved = np.random.default_rng(1), discount or 1.0, 0
    for _ in range(20):
        steps = episode(env, rng)
        end = steps[-1][1]["evaluation"]["reward"]
        earned = sum(gamma**t * reward for t, (reward, _) in enumerate(steps))
        assert earned == pytest.approx(gamma ** (len(steps) - 1) * end, abs=1e-12)
        assert steps[-1][1]["potential"] == 0.0
        moved += any(reward for reward, _ in steps[:-1])
    assert moved >= 5


def test_a_change_is_paid_by_what_stopping_after_it_is_worth_more() -> None:
    env = BuildEnv(problem=table(form="edit", share=1, start=START, step_reward="evaluated"))
    env.reset(seed=0)
    worth = env.fork().step(np.int64(STOP))[1]
    for place in (3, 5, 2):
        _, reward, _, _, info = env.step(np.int64(np.flatnonzero(env.action_masks())[place]))
        stopped = env.fork().step(np.int64(STOP))[4]["evaluation"]["reward"]
        assert reward == pytest.approx(stopped - worth) and reward
        worth = stopped
        assert info["potential"] == pytest.approx(worth - env.problem.scores[SPACE.from_choices(START)])


@kinds
def test_what_is_open_counts_as_at_the_start(kind: str) -> None:
    problem = table(share=1, start=START, **PAID[kind])
    env, values = BuildEnv(problem=problem), WORTH if kind == "cost" else problem.scores
    env.reset(seed=0)
    _, reward, _, _, _ = env.step(np.int64(problem.layout.action(0, 2)))
    start = SPACE.from_choices(START)
    assert reward == pytest.approx(values[(2, *start[1:])] - values[start])
    # only what is paid for by its score is a query
    assert problem.queried == ({SPACE.number(start), SPACE.number((2, *start[1:]))} if kind == "evaluated" else set())


def test_what_is_outside_or_unknown_promises_what_it_would_be_paid() -> None:
    scores, allowed = -1 - np.arange(float(SPACE.size)).reshape(SPACE.shape), np.ones(SPACE.shape, dtype=bool)
    scores[1, 0, 0, 0], allowed[2, 0, 0, 0] = np.nan, False
    problem = TableProblem(SPACE, scores, allowed=allowed, step_reward="evaluated")
    env = BuildEnv(problem=problem)
    for choice in (1, 2):
        env.reset(seed=0)
        assert env.step(np.int64(problem.layout.action(0, choice)))[1] == problem.failure_reward - scores[0, 0, 0, 0]
    assert problem.queried == {0, SPACE.number((1, 0, 0, 0))}  # what is outside was not looked up


@forms
@kinds
def test_batches_and_states_are_paid_alike(form: str, kind: str) -> None:
    def problem() -> TableProblem:
        return table(**FORMS[form] | {"share": 1}, **PAID[kind], start=START, discount=0.95)

    env, twin = BuildEnv(problem=problem()), BuildEnv(problem=problem())
    batch, rng = EpisodeVecEnv(problem(), n_envs=2, seed=0), np.random.default_rng(4)
    env.reset(seed=0)
    observation, ended, paid = batch.reset(), False, []
    while not ended:
        actions = np.array([rng.choice(np.flatnonzero(mask)) for mask in observation["action_mask"]])
        twin.restore(env.state())
        _, reward, ended, _, _ = env.step(np.int64(actions[0]))
        assert twin.step(np.int64(actions[0]))[1] == reward
        observation, rewards, _, _ = batch.step(actions)
        assert rewards[0] == np.float32(reward)
        paid.append(reward)
    assert any(paid[:-1])


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"step_reward": "evaluate"}, "Did you mean 'evaluated'"),
        ({"step_reward": "cost"}, "cost_scores and step_reward='cost' go together"),
        ({"cost_scores": WORTH}, "cost_scores and step_reward='cost' go together"),
        ({"discount": 0.9}, "does nothing where only the end is paid"),
        ({"step_reward": "evaluated", "discount": 2.0}, "at most 1"),
        ({"start": START}, "for form='edit'"),
    ],
)
def test_mistakes(more: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        table(**more)


def test_cells_are_paid_by_their_cost_at_the_accuracy_of_the_reference(bench: Path) -> None:
    settings: dict[str, Any] = {"path": bench, "device": "fpga", "reward": "tangent", "cost": "latency_ms"}
    problem = make_nas_bench_201(**settings, step_reward="cost")
    env, skip, conv = NASBench201Env(problem=problem), CELL_OPS.index("skip_connect"), CELL_OPS.index("nor_conv_3x3")
    env.reset(seed=0)
    _, reward, _, _, info = env.step(np.int64(problem.layout.action(0, conv)))
    latency = problem.columns["latency_ms"]
    before, after = latency[(skip,) * 6], latency[conv, skip, skip, skip, skip, skip]
    assert (reward > 0) == (after < before) and reward == info["potential"] != 0 and not problem.queried
    assert isinstance(problem.shaping, TablePotential)
    assert problem.shaping.values[(conv,) * 6] == problem.scores[(conv,) * 6]  # that is the reference
    steps = episode(env, np.random.default_rng(0), illegal=0)
    assert sum(paid for paid, _ in steps) == pytest.approx(steps[-1][1]["evaluation"]["reward"])


def test_cells_are_paid_for_what_is_met_on_the_way(bench: Path) -> None:
    env = gymnasium.make("rlnas:rlnas/NASBench201-v0", path=str(bench), step_reward="evaluated").unwrapped
    assert isinstance(env, NASBench201Env)
    steps = episode(env, np.random.default_rng(0), illegal=0)
    assert sum(paid for paid, _ in steps) == pytest.approx(steps[-1][1]["evaluation"]["accuracy"])
    assert 2 <= len(env.problem.queried) <= 7
    with pytest.raises(ConfigError, match="name one, such as reward='tangent'"):
        make_nas_bench_201(bench, step_reward="cost")
