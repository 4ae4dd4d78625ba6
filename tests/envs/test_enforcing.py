"""Limits that are not kept by the mask, and rewards that look back, through the environment."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rlnas.envs import EpisodeVecEnv, MorphProblem
from rlnas.layout import STOP
from tests.envs.fakes import GraphEvaluator, fake_problem


def played(problem: MorphProblem, *, batches: int = 2) -> list[tuple[float, dict[str, Any]]]:
    """Reward and info of random episodes without STOP."""
    env, rng, found = EpisodeVecEnv(problem, n_envs=6), np.random.default_rng(0), []
    observation = env.reset()
    for _ in range(batches * env.max_steps):
        masks = observation["action_mask"].astype(bool)
        assert masks[:, STOP].all() and (masks.sum(axis=1) > 1).all()
        actions = np.array([rng.choice(np.flatnonzero(mask[1:])) + 1 for mask in masks])
        observation, rewards, _, infos = env.step(actions)
        found += [(float(r), info) for r, info in zip(rewards, infos, strict=True) if "evaluation" in info]
    return found


def test_rejected_networks_are_not_evaluated() -> None:
    problem = fake_problem(max_steps=3, max_params="1.3x", max_macs=None, enforce="reject")
    most = problem.space.limits.n_params
    assert most is not None
    episodes = played(problem)
    evaluator = problem.service.evaluator
    assert isinstance(evaluator, GraphEvaluator)
    inside = [info["evaluation"]["n_params"] <= most for _, info in episodes]
    assert any(inside) and not all(inside)
    for (reward, info), ok in zip(episodes, inside, strict=True):
        record = info["evaluation"]
        assert (record["status"] == "ok") == ok == (record["graph_key"] in evaluator.seen)
        assert ok or (reward == 0.0 and "n_params <=" in record["reason"])


def test_a_penalty_divides_the_reward_and_marks_the_network() -> None:
    limited = {"max_steps": 3, "max_params": "1.3x", "max_macs": None, "reward": "mnasnet_hard", "target": 1e9}
    problem = fake_problem(**limited, enforce="penalty")
    most = problem.space.limits.n_params
    assert most is not None
    over = 0
    for reward, info in played(problem):
        record = info["evaluation"]
        excess = record["n_params"] / most
        assert record["status"] == ("ok" if excess <= 1 else "infeasible")
        assert reward == pytest.approx(record["accuracy"] / max(1.0, excess), rel=1e-6)
        over += excess > 1
    assert over > 0


def test_the_problem_keeps_the_history_of_its_rewards() -> None:
    problem = fake_problem(max_steps=2, reward="hypervolume")
    episodes = played(problem, batches=2)
    assert len(problem.history) == len(episodes) == 12
    assert all(info["evaluation"]["reward"] >= paid - 1e-6 for paid, info in episodes)
    assert problem.history.state() == [
        [info["evaluation"]["accuracy"], None, info["evaluation"]["n_params"], info["evaluation"]["macs"]]
        for _, info in episodes
    ]
    first = episodes[0][1]["evaluation"]["reward"]
    assert episodes[0][0] == pytest.approx(first)
