"""Vector rewards by mo-gymnasium's conventions, and the archive of what episodes have reached."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check
from mo_gymnasium.wrappers import LinearReward, MONormalizeReward, MORecordEpisodeStatistics
from mo_gymnasium.wrappers.vector import MOSyncVectorEnv

from rlnas.envs import MorphEnv, ParetoArchive, TableProblem, VectorReward, archive_of
from rlnas.errors import ConfigError
from rlnas.latency import TorchMeter
from rlnas.report import relative_hypervolume
from rlnas.report.pareto import Point, Ranges
from rlnas.rewards import REWARDS
from tests.envs.fakes import fake_problem
from tests.envs.ids import FORMS, IDS, settings_of
from tests.envs.tables import SPACE, table


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


def make(name: str, folder: Path) -> gymnasium.Env[Any, Any]:
    id, settings = settings_of(name, folder)
    return gymnasium.make(id, **settings)


def play(env: gymnasium.Env[Any, Any], rng: np.random.Generator, *, legal: bool = True) -> list[tuple[Any, ...]]:
    """An episode of random actions; what each step gave."""
    env.reset()
    steps: list[tuple[Any, ...]] = []
    while not steps or not steps[-1][2]:
        mask = env.get_wrapper_attr("action_masks")()
        steps.append(env.step(int(rng.choice((mask if legal else ~mask).nonzero()[0]))))
    return steps


@pytest.mark.parametrize("name", [*IDS, *FORMS])
def test_rewards_are_vectors_within_their_space(name: str, folder: Path) -> None:
    env, rng = VectorReward(make(name, folder)), np.random.default_rng(0)
    assert env.unwrapped.reward_space is env.reward_space and env.reward_dim == len(env.objectives) >= 1
    for legal in (True, True, False):
        steps = play(env, rng, legal=legal)
        assert all(env.reward_space.contains(step[1]) for step in steps[-1:])
        assert all(step[1].shape == (env.reward_dim,) and not step[1].any() for step in steps[:-1])
        reward, info = steps[-1][1], steps[-1][4]
        reward_is = info["reward_vector"]
        if reward_is is None:  # the worst there is, and never better than what is within the limits
            assert reward[0] <= env.reward_space.low[0] + 1e-6
        else:
            assert dict(zip(env.objectives, reward, strict=True)) == pytest.approx(reward_is, rel=1e-6)
        assert steps[-1][1] is not steps[-2][1] if len(steps) > 1 else True


@pytest.mark.parametrize("name", [*IDS, *FORMS])
def test_mo_gymnasiums_own_checks(name: str, folder: Path) -> None:
    """Those of its test suite: the scalarized environment passes Gymnasium's checker, rewards fit their space."""
    env = LinearReward(VectorReward(make(name, folder)))
    gymnasium_check(Unwrapped(env), skip_render_check=True, skip_close_check=True)
    weight = np.zeros(env.unwrapped.reward_dim)
    weight[0] = 2.0
    env.set_weight(weight)
    *_, (_, reward, _, _, info) = play(env, np.random.default_rng(1))
    assert reward == pytest.approx(2 * info["vector_reward"][0]) and np.array_equal(info["reward_weights"], weight)
    assert env.unwrapped.reward_space.contains(info["vector_reward"])
    assert env.unwrapped.spec.id == settings_of(name, folder)[0]


class Unwrapped(gymnasium.Env[Any, Any]):
    """An environment that says it is not wrapped, as the checker wants it.

    Infos are copied, for `LinearReward` puts the same array of weights into all of them, which the checker forbids.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        self.inner = env
        self.observation_space, self.action_space = env.observation_space, env.action_space
        self.metadata, self.render_mode = env.metadata, env.render_mode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        return self.inner.reset(seed=seed, options=options)

    def step(self, action: Any) -> Any:
        *step, info = self.inner.step(action)
        return (*step, copy.deepcopy(info))


def test_its_statistics_normalization_and_vector_environments() -> None:
    def wrapped() -> gymnasium.Env[Any, Any]:
        return VectorReward(MorphEnv(problem=fake_problem(max_steps=2)))

    env = MORecordEpisodeStatistics(MONormalizeReward(wrapped(), idx=1))
    *_, (_, reward, _, _, info) = play(env, np.random.default_rng(0))
    assert info["episode"]["r"] == pytest.approx(reward) and abs(reward[1]) < abs(info["reward_vector"]["minus_macs"])
    vector = MOSyncVectorEnv([wrapped, wrapped])
    vector.reset(seed=0)
    _, rewards, terminated, _, _ = vector.step(np.zeros(2, np.int64))
    assert rewards.shape == (2, 2) and terminated.all() and (rewards[:, 0] > 0.5).all()
    vector.close()


def test_bounds_are_the_limits_of_the_space() -> None:
    def low(**settings: Any) -> float:
        return float(VectorReward(MorphEnv(problem=fake_problem(**settings))).reward_space.low[1])

    problem = fake_problem(max_macs="2x")
    assert low(max_macs="2x") == -2 * problem.space.start.macs == low(max_macs="2x", enforce="reject")
    assert low(max_macs=None) == low(max_macs="2x", enforce="penalty") == low(cost="latency_ms") == -np.inf
    both = fake_problem(min_macs="150%", max_macs="4x")
    space = VectorReward(MorphEnv(problem=both)).reward_space
    assert space.high.tolist() == [1.0, -both.space.limits.min_macs] and space.low[1] == -both.space.limits.macs


@pytest.mark.parametrize("reward", REWARDS)
def test_every_reward_has_the_same_vector(reward: str) -> None:
    env = VectorReward(MorphEnv(problem=fake_problem(reward=reward, cost="n_params", max_steps=2)))
    assert env.objectives == ("accuracy", "minus_n_params")
    assert play(env, np.random.default_rng(0))[-1][1] != pytest.approx(0)


def test_chosen_objectives() -> None:
    env = gymnasium.make("rlnas/Build-v0", problem=table(share=1))
    given = {"minus_latency_ms": (-1.5, 0.0), "score": (0.0, 1.0)}
    chosen, every = VectorReward(env, given), VectorReward(env)
    assert every.objectives == ("score", "minus_latency_ms") and chosen.objectives == tuple(given)
    rng = np.random.default_rng(0)
    for _ in range(10):
        *_, (_, reward, _, _, info) = play(chosen, rng)
        vector = info["reward_vector"]
        assert reward == pytest.approx([max(-1.5, vector["minus_latency_ms"]), vector["score"]])
    *_, (_, reward, _, _, info) = play(chosen, rng, legal=False)
    assert info["reward_vector"] is None and reward == pytest.approx([-1.5, 0.0])


def test_what_a_table_does_not_know_is_the_worst() -> None:
    latency = np.linspace(1, 2, SPACE.size)
    latency[::2] = np.nan
    problem = TableProblem(SPACE, np.full(SPACE.size, 0.5), columns={"latency_ms": latency, "macs": latency * np.nan})
    env, rng = VectorReward(gymnasium.make("rlnas/Build-v0", problem=problem)), np.random.default_rng(0)
    assert env.objectives == ("score", "minus_latency_ms")
    rewards = np.array([play(env, rng)[-1][1] for _ in range(20)])
    assert (rewards[:, 1] == -2).any() and np.isfinite(rewards).all() and (rewards[:, 0] == 0.5).all()


@pytest.mark.parametrize(
    ("objectives", "words"),
    [
        ({}, "name at least one"),
        ({"score": (1.0, 0.0)}, "cannot lie between 1.0 and 0.0"),
        ({"score": (-np.inf, 0.0)}, "cannot lie"),
        ({"scores": (0.0, 1.0)}, "Did you mean 'score'"),
    ],
)
def test_wrong_objectives(objectives: dict[str, tuple[float, float]], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        play(VectorReward(gymnasium.make("rlnas/Build-v0", problem=table()), objectives), np.random.default_rng(0))


def test_other_environments_have_to_say_what_counts() -> None:
    for wrap in (VectorReward, lambda env: ParetoArchive(env).archive):
        with pytest.raises(ConfigError, match="objectives= or reference="):
            wrap(gymnasium.make("CartPole-v1"))


# ------------------------------------------------------------------------------------------------------------- archive


@pytest.mark.parametrize("name", [*IDS, *FORMS])
def test_archives_of_every_environment(name: str, folder: Path) -> None:
    env, rng = ParetoArchive(make(name, folder)), np.random.default_rng(0)
    seen = []
    for _ in range(4):
        before = list(env.archive.records) if seen else []
        info = play(env, rng)[-1][4]
        seen.append(info["hypervolume"])
        assert info["on_front"] == (env.archive.records != before)
    assert seen == env.archive.history == sorted(seen) and 0 <= seen[-1] <= 1
    assert env.archive.records


def test_the_reference_is_the_start_network(folder: Path) -> None:
    problem = fake_problem()
    env, rng = ParetoArchive(MorphEnv(problem=problem)), np.random.default_rng(0)
    points = []
    for _ in range(4):
        evaluation = play(env, rng)[-1][4]["evaluation"]
        points.append(Point(evaluation["accuracy"], evaluation["macs"]))
    start = problem.reference.facts
    ranges = Ranges.around(Point(start.accuracy, start.macs))
    assert env.archive.hypervolume == pytest.approx(relative_hypervolume(points, ranges=ranges)) and points[1:]
    replayed = MorphEnv(problem=fake_problem()).replay(env.archive.records[0])[1]
    assert replayed["reward_vector"] == env.archive.records[0]["reward_vector"]


def test_a_given_reference_counts_in_the_objectives_units() -> None:
    scores = np.zeros(SPACE.shape)
    scores[0, 0, 0, 0] = 0.5
    problem = TableProblem(SPACE, scores, columns={"latency_ms": np.full(SPACE.shape, 3.0)})
    env = ParetoArchive(gymnasium.make("rlnas/Build-v0", problem=problem), {"score": 0.1, "minus_latency_ms": -10.0})
    env.reset()
    for slot in range(len(SPACE)):
        info = env.step(problem.layout.action(slot, 0))[4]
    assert info["hypervolume"] == pytest.approx(0.4 * 7)
    with pytest.raises(ConfigError, match="Did you mean 'minus_latency_ms'"):
        play(ParetoArchive(env.env, {"minus_latency": -10.0}), np.random.default_rng(0))


@pytest.mark.parametrize("way", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_wrapped_environments_copy(way: Callable[[Any], Any]) -> None:
    env = VectorReward(ParetoArchive(gymnasium.make("rlnas/Build-v0", problem=table())))
    play(env, np.random.default_rng(0))
    twin = way(env)
    assert twin.env.archive.records == env.env.archive.records
    for one in (env, twin):
        play(one, np.random.default_rng(1))
    assert twin.env.archive.history == env.env.archive.history and len(env.env.archive.history) == 2


def test_a_time_limit_leaves_nothing_to_reward_or_to_keep() -> None:
    limited = gymnasium.make("rlnas/Morph-v0", problem=fake_problem(), max_episode_steps=1)
    env = VectorReward(ParetoArchive(limited))
    env.reset(seed=0)
    _, reward, terminated, truncated, info = env.step(int(env.get_wrapper_attr("action_masks")().nonzero()[0][1]))
    assert truncated and not terminated and not reward.any() and "hypervolume" not in info
    env.reset()
    _, reward, terminated, _, info = env.step(0)
    assert terminated and reward[0] > 0 and env.get_wrapper_attr("archive").history == [info["hypervolume"]]


def test_specs_make_the_same_wrapped_environment() -> None:
    given = {"minus_latency_ms": (-1.5, 0.0)}
    env = VectorReward(ParetoArchive(gymnasium.make("rlnas/Build-v0", problem=table()), {"score": 0.2}), given)
    assert env.spec is not None
    again = gymnasium.make(env.spec)
    assert again.get_wrapper_attr("reward_space") == env.reward_space
    (*_, first), (*_, second) = (play(e, np.random.default_rng(0)) for e in (env, again))
    assert np.array_equal(first[1], second[1]) and first[4]["hypervolume"] == second[4]["hypervolume"] > 0


def test_both_wrappers_go_together_in_either_order() -> None:
    one = VectorReward(ParetoArchive(gymnasium.make("rlnas/Build-v0", problem=table())))
    other = ParetoArchive(VectorReward(gymnasium.make("rlnas/Build-v0", problem=table())))
    (*_, first), (*_, second) = (play(env, np.random.default_rng(0)) for env in (one, other))
    assert np.array_equal(first[1], second[1]) and first[4]["hypervolume"] == second[4]["hypervolume"]


def test_an_archive_for_a_measured_cost() -> None:
    problem = fake_problem(cost="latency_ms", meter=TorchMeter(max_time_s=0.02))
    assert problem.cost == "latency_ms" and [axis.name for axis in archive_of(problem).axes][1] == "minus_latency_ms"
