"""The batched core and its two adapters."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv
from stable_baselines3.common.vec_env import VecEnv

from rlnas.envs import EpisodeVecEnv, EpisodeVectorEnv, MorphEnv
from rlnas.layout import STOP
from tests.envs.fakes import fake_problem


def random_actions(masks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.array([rng.choice(np.flatnonzero(mask)) for mask in masks])


def test_stop_is_absorbing_and_episodes_end_together() -> None:
    env = EpisodeVecEnv(fake_problem(), n_envs=3)
    assert isinstance(env, VecEnv)
    rng = np.random.default_rng(0)
    observation = env.reset()
    for step in range(env.max_steps):
        actions = random_actions(observation["action_mask"], rng)
        actions[1] = STOP
        observation, rewards, dones, infos = env.step(actions)
        last = step == env.max_steps - 1
        assert dones.tolist() == [last] * 3
        assert all(("evaluation" in info) == last for info in infos)
        if not last:
            assert rewards.tolist() == [0.0] * 3
            assert observation["action_mask"][1].nonzero()[0].tolist() == [STOP]
    assert infos[1]["evaluation"]["operators"] == []
    assert infos[1]["actions"] == [STOP] * env.max_steps
    assert set(infos[0]["terminal_observation"]) == set(observation)


def test_ended_episodes_reach_the_service_in_one_batch(monkeypatch: Any) -> None:
    problem = fake_problem()
    _ = problem.reward
    sizes: list[int] = []
    evaluate = problem.service.evaluate

    def spy(candidates: Any, **arguments: Any) -> Any:
        sizes.append(len(candidates))
        return evaluate(candidates, **arguments)

    monkeypatch.setattr(problem.service, "evaluate", spy)
    env = EpisodeVecEnv(problem, n_envs=4)
    rng = np.random.default_rng(0)
    observation = env.reset()
    for _ in range(env.max_steps):
        observation, _, _, _ = env.step(random_actions(observation["action_mask"], rng))
    assert sizes == [4]


def test_batch_agrees_with_the_single_environment() -> None:
    env = EpisodeVecEnv(fake_problem(), n_envs=4, seed=7)
    rng = np.random.default_rng(1)
    observation = env.reset()
    for _ in range(env.max_steps):
        observation, rewards, _, infos = env.step(random_actions(observation["action_mask"], rng))
    for reward, info in zip(rewards, infos, strict=True):
        single, replayed = MorphEnv(problem=fake_problem()).replay(info)
        assert np.float32(single) == reward
        assert replayed["evaluation"]["graph_key"] == info["evaluation"]["graph_key"]


def test_vector_environment_by_make_vec() -> None:
    env = gymnasium.make_vec(
        "rlnas/Morph-v0",
        num_envs=3,
        vectorization_mode="vector_entry_point",
        problem=fake_problem(),
    )
    assert isinstance(env, VectorEnv)
    rng = np.random.default_rng(0)
    observation, _ = env.reset(seed=1)
    assert env.observation_space.contains(observation)
    steps = env.unwrapped.problem.space.max_steps
    for step in range(steps):
        observation, rewards, terminated, truncated, infos = env.step(random_actions(observation["action_mask"], rng))
        assert terminated.all() == (step == steps - 1) and not truncated.any()
    assert (rewards > 0).all()
    assert infos["_evaluation"].all()
    observation, rewards, terminated, _, _ = env.step(np.zeros(3, dtype=np.int64))
    assert not terminated.any() and (rewards == 0).all()
    assert np.array_equal(observation["nodes"], env.reset()[0]["nodes"])


def test_vector_and_sb3_adapters_give_the_same() -> None:
    first, second = EpisodeVecEnv(fake_problem(), n_envs=2, seed=3), EpisodeVectorEnv(2, problem=fake_problem(), seed=3)
    rng = np.random.default_rng(4)
    a, (b, _) = first.reset(), second.reset()
    for _ in range(first.max_steps):
        assert all(np.array_equal(a[name], b[name]) for name in a)
        actions = random_actions(a["action_mask"], rng)
        a, rewards_a, _, _ = first.step(actions)
        b, rewards_b, _, _, _ = second.step(actions)
    assert rewards_a.tolist() == np.float32(rewards_b).tolist()


def test_limits_hold_for_every_evaluated_network() -> None:
    problem = fake_problem(max_macs="1.5x", max_params="2x")
    env = EpisodeVecEnv(problem, n_envs=8)
    rng = np.random.default_rng(5)
    observation = env.reset()
    for _ in range(3 * env.max_steps):
        observation, _, _, infos = env.step(random_actions(observation["action_mask"], rng))
        for info in infos:
            if "evaluation" in info:
                assert info["evaluation"]["macs"] <= 1.5 * problem.space.start.macs
                assert info["evaluation"]["n_params"] <= 2 * problem.space.start.n_params


def test_start_over_the_limit_must_shrink_and_no_over_limit_network_is_trained() -> None:
    problem = fake_problem(max_macs="60%")
    limit = problem.space.limits.macs
    assert limit is not None
    env = EpisodeVecEnv(problem, n_envs=8)
    rng = np.random.default_rng(6)
    observation = env.reset()
    assert not observation["action_mask"][:, STOP].any()
    for _ in range(3 * env.max_steps):
        observation, _, _, infos = env.step(random_actions(observation["action_mask"], rng))
        for info in infos:
            if "evaluation" in info:
                assert info["evaluation"]["macs"] <= limit and info["evaluation"]["status"] == "ok"
    over = MorphEnv(problem=problem)
    over.reset(seed=0)
    illegal = np.int64(np.flatnonzero(~over.action_masks())[1])
    for _ in range(over.max_steps):
        _, reward, _, _, info = over.step(illegal)
    assert info["evaluation"]["status"] == "infeasible" and reward == 0.0
