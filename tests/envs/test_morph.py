"""The single environment: both checkers, same seed, masks, illegal actions, replay, fork."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check
from stable_baselines3.common.env_checker import check_env as sb3_check

import rlnas  # noqa: F401  (registers the ids)
from rlnas.envs import MorphEnv
from rlnas.errors import ConfigError, LimitError, SpaceError
from rlnas.layout import STOP
from tests.envs.fakes import fake_problem


@pytest.fixture
def env() -> MorphEnv:
    return MorphEnv(problem=fake_problem())


def play(env: MorphEnv, rng: np.random.Generator, *, seed: int | None = None) -> tuple[float, dict[str, Any]]:
    env.reset(seed=seed)
    ended, reward, info = False, 0.0, {}
    while not ended:
        action = np.int64(rng.choice(np.flatnonzero(env.action_masks())))
        _, reward, ended, truncated, info = env.step(action)
        assert not truncated
    return reward, info


def test_gymnasium_check_env() -> None:
    gymnasium_check(gymnasium.make("rlnas/Morph-v0", problem=fake_problem()).unwrapped)


def test_sb3_check_env(env: MorphEnv) -> None:
    sb3_check(env)


def test_make_without_import() -> None:
    code = "import gymnasium; e = gymnasium.make('rlnas:rlnas/Morph-v0', max_steps=2); print(e.reset(seed=0)[0].keys())"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "action_mask" in done.stdout


def test_default_environment_trains_and_rewards() -> None:
    env = gymnasium.make("rlnas/Morph-v0", epochs=0.5, start_epochs=1, start_evaluations=5)
    env.reset(seed=0)
    _, reward, terminated, truncated, info = env.step(STOP)
    assert terminated and not truncated
    assert 0.5 < reward < 2.0
    evaluation = info["evaluation"]
    assert evaluation["status"] == "ok" and evaluation["operators"] == [] and evaluation["latency_ms"] is None
    env.close()


def test_two_environments_of_the_same_seed_agree() -> None:
    first, second = (MorphEnv(problem=fake_problem()) for _ in range(2))
    rng = np.random.default_rng(0)
    for seed in (3, None, 4):
        a, _ = first.reset(seed=seed)
        b, _ = second.reset(seed=seed)
        ended = False
        while not ended:
            assert all(np.array_equal(a[name], b[name]) for name in a)
            action = np.int64(rng.choice(np.flatnonzero(a["action_mask"])))
            a, reward_a, ended, _, info_a = first.step(action)
            b, reward_b, _, _, info_b = second.step(action)
            assert reward_a == reward_b
            assert info_a == info_b


def test_mask_equals_legality_both_ways(env: MorphEnv) -> None:
    rng = np.random.default_rng(1)
    env.reset(seed=0)
    for _ in range(3):
        mask = env.action_masks()
        assert np.array_equal(mask, env._episode.observe()["action_mask"].astype(bool))
        sample = rng.choice(len(mask), size=60, replace=False)
        for action in {*sample.tolist(), *rng.choice(np.flatnonzero(mask), size=10).tolist()}:
            twin = env.fork()
            before = twin._episode.graph.key
            if int(action) == STOP:
                continue
            info = twin.step(np.int64(action))[4]
            assert info["illegal_action"] == (not mask[action])
            assert (twin._episode.graph.key != before) == bool(mask[action])
        env.step(np.int64(rng.choice(np.flatnonzero(mask)[1:])))


def test_illegal_action_changes_nothing_and_uses_a_step(env: MorphEnv) -> None:
    first, _ = env.reset(seed=0)
    illegal = int(np.flatnonzero(~env.action_masks())[0])
    second, reward, terminated, _, info = env.step(np.int64(illegal))
    assert info["illegal_action"] and reward == 0.0 and not terminated
    assert np.array_equal(first["nodes"], second["nodes"])
    assert second["context"][0] < first["context"][0]
    for _ in range(env.max_steps - 1):
        _, reward, terminated, _, info = env.step(np.int64(illegal))
    assert terminated and reward > 0.0 and info["evaluation"]["operators"] == []


def test_episode_replays_from_its_record(env: MorphEnv) -> None:
    reward, info = play(env, np.random.default_rng(2), seed=5)
    again, replayed = MorphEnv(problem=fake_problem()).replay(info)
    assert again == reward
    assert replayed["evaluation"] == info["evaluation"]


def test_fork_is_independent_and_equal(env: MorphEnv) -> None:
    env.reset(seed=0)
    env.step(np.int64(np.flatnonzero(env.action_masks())[3]))
    twin = env.fork()
    assert twin.state() == env.state()
    action = np.int64(np.flatnonzero(env.action_masks())[5])
    seen = twin.step(action)[0]
    assert twin.state() != env.state()
    assert all(np.array_equal(seen[name], value) for name, value in env.step(action)[0].items())


def test_state_of_another_start_is_refused(env: MorphEnv) -> None:
    other = MorphEnv(problem=fake_problem(width=4))
    with pytest.raises(SpaceError, match="another start"):
        env.restore(other.state())


def test_reset_really_resets(env: MorphEnv) -> None:
    first, _ = env.reset(seed=0)
    play(env, np.random.default_rng(3))
    second, _ = env.reset(seed=0)
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_observations_are_no_views(env: MorphEnv) -> None:
    first, _ = env.reset(seed=0)
    for value in first.values():
        value[:] = 0
    second, _ = env.reset(seed=0)
    assert second["node_mask"].sum() == len(env._episode.graph)


def test_copies_and_pickles_go_on_alike(env: MorphEnv) -> None:
    env.reset(seed=0)
    env.step(np.int64(np.flatnonzero(env.action_masks())[2]))
    for twin in (copy.deepcopy(env), pickle.loads(pickle.dumps(env))):
        assert twin.state() == env.state()
        assert twin.step(np.int64(STOP))[1] == env.fork().step(np.int64(STOP))[1]


def test_duplicates_are_evaluated_once(env: MorphEnv) -> None:
    evaluator = env.problem.evaluator
    env.reset(seed=0)
    env.step(np.int64(STOP))
    count = len(evaluator.seen)
    env.reset()
    _, _, _, _, info = env.step(np.int64(STOP))
    assert info["evaluation"]["status"] == "ok" and "cached" not in info["evaluation"]
    assert len(evaluator.seen) == count


def test_start_network_is_evaluated_at_least_five_times_and_is_worth_one() -> None:
    env = MorphEnv(problem=fake_problem())
    env.reset(seed=0)
    _, reward, _, _, _ = env.step(np.int64(STOP))
    assert len(env.problem.reference.accuracies) >= 5
    assert reward == pytest.approx(1.0, abs=0.05)


def test_step_after_the_end_asks_for_a_reset(env: MorphEnv) -> None:
    env.reset(seed=0)
    env.step(np.int64(STOP))
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(np.int64(STOP))


def test_ansi_rendering() -> None:
    env = MorphEnv(problem=fake_problem(), render_mode="ansi")
    env.reset(seed=0)
    lines, graph = env.render().splitlines(), env._episode.graph
    assert lines[0].split() == ["slot", "node", "op", "shape", "parameters", "MACs"] and not lines[1].strip("-")
    assert [line.split()[:3] for line in lines[2:-1]] == [
        [str(slot), id, graph.node(id).op] for slot, id in enumerate(graph.order)
    ]
    assert lines[-1].split() == ["all", f"{graph.n_params:,}", f"{graph.macs:,}"]


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"task": "digit"}, ConfigError, "digits"),
        ({"variants": ["wident 2"]}, Exception, "widen"),
        ({"variants": ["widen"]}, ConfigError, "amount"),
        ({"space": "resnet"}, ConfigError, "conv_stages"),
        ({"cost": "flops"}, ConfigError, "macs"),
        ({"reward": "tan"}, ConfigError, "tangent"),
        ({"max_macs": "fast"}, ConfigError, "max_macs"),
        ({"max_nodes": 5}, SpaceError, "max_nodes"),
        ({"max_macs": 10}, LimitError, "macs <= 10"),
        ({"stages": 9}, SpaceError, "stages"),
    ],
)
def test_bad_settings_are_refused_at_once(settings: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        gymnasium.make("rlnas/Morph-v0", **settings)
    assert "\n" not in str(caught.value)
