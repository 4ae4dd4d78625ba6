from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from rlnas.controllers.pretraining import Labels
from rlnas.envs import BuildEnv, EpisodeVecEnv, TableProblem, make_problem
from rlnas.envs.imagined import ImaginedProblem
from rlnas.errors import ConfigError
from rlnas.evaluation.surrogate import graph_features
from rlnas.graph import Graph
from rlnas.spaces import DecisionSpace

SPACE = DecisionSpace.of({"depth": (1, 2, 3), "width": (8, 16)})


def table(form: str = "build") -> TableProblem:
    cost = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
    return TableProblem(
        SPACE,
        np.arange(6) / 10,
        form=form,
        allowed=cost < 20,
        columns={"macs": cost, "accuracy": np.arange(6) / 10},
    )


def play(env: EpisodeVecEnv, seed: int) -> tuple[list[dict[str, np.ndarray[Any, Any]]], list[dict[str, Any]]]:
    """Random legal actions until the end: all observations, and the last infos."""
    generator = np.random.default_rng(seed)
    seen = [env.reset()]
    for _ in range(env.max_steps):
        masks = seen[-1]["action_mask"].astype(bool)
        observation, _, _, infos = env.step(np.array([generator.choice(np.flatnonzero(m)) for m in masks]))
        seen.append(observation)
    return seen, infos


@pytest.mark.parametrize("form", ["build", "edit"])
def test_states_are_those_of_the_real_episodes_and_nothing_is_looked_up(form: str) -> None:
    problem = table(form)
    real = EpisodeVecEnv(problem, n_envs=7)
    imagined = real.imagined(7)
    seen, infos = play(imagined, 1)
    assert not problem.queried
    expected, real_infos = play(real, 1)
    for mine, its in zip(seen, expected, strict=True):
        assert all((mine[name] == its[name]).all() for name in its)
    for info, real_info in zip(infos, real_infos, strict=True):
        assert info["key"] == real_info["evaluation"]["graph_key"]
        assert info["actions"] == real_info["actions"]
        assert info["episode"]["r"] == 0 and "evaluation" not in info


def test_what_is_known_of_an_assignment() -> None:
    env = EpisodeVecEnv(table(), n_envs=2).imagined(1)
    env.reset()
    env.step(np.array([2]))  # depth 2
    _, _, _, (info,) = env.step(np.array([1 + 3 + 1]))  # width 16
    assert info["features"] == {"choices": [1, 1], "known": {"log_macs": pytest.approx(math.log(8))}}
    assert info["key"] == "depth=2,width=16" and info["feasible"]


def test_an_end_left_open_by_illegal_actions_is_not_feasible() -> None:
    env = EpisodeVecEnv(table(), n_envs=1).imagined(1)
    env.reset()
    env.step(np.array([0]))
    _, _, _, (info,) = env.step(np.array([1]))
    assert info["features"]["choices"] == [0, -1] and not info["feasible"]


def test_what_is_known_of_a_network() -> None:
    problem = make_problem("digits", max_steps=2)
    env = EpisodeVecEnv(problem, n_envs=1).imagined(6)
    _, infos = play(env, 0)
    start: Graph = problem.space.start
    known = [info["features"]["known"] for info in infos]
    assert all(list(k) == list(graph_features(start)) for k in known)
    assert len({info["key"] for info in infos}) > 3
    assert all(info["feasible"] and info["features"]["choices"] is None for info in infos)
    assert "first_start_id" not in vars(problem), "the start network was trained"
    stopped = EpisodeVecEnv(problem, n_envs=1).imagined(1)
    stopped.reset()
    stopped.step(np.array([0]))
    _, _, _, (info,) = stopped.step(np.array([0]))
    assert info["key"] == start.key and info["features"]["known"] == graph_features(start)


def test_alone_as_an_environment() -> None:
    env = BuildEnv(problem=ImaginedProblem(table()))
    env.reset(seed=0)
    env.step(np.int64(1))
    _, reward, terminated, _, info = env.step(np.int64(1 + env.problem.layout.variants))
    assert terminated and reward == 0.0 and info["features"]["choices"] == [0, 0]
    assert "evaluation" not in info


def test_labels_of_given_episodes() -> None:
    env = EpisodeVecEnv(table(), n_envs=2)
    labels = Labels.play(env, [[1, 4], [2, 4], [1, 5]])
    assert [f["choices"] for f in labels.features] == [[0, 0], [1, 0], [0, 1]]
    assert labels.rewards == pytest.approx([0.0, 0.2, 0.1])


def test_a_problem_of_another_kind() -> None:
    with pytest.raises(ConfigError, match="a ImaginedProblem cannot be imagined"):
        ImaginedProblem(ImaginedProblem(table()))
