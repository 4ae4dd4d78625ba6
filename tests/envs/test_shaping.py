"""Rewards at every step: in every form of the environment, episodes earn the same, and the best plans stay the best."""

from __future__ import annotations

import copy
from itertools import pairwise, product
from typing import Any

import gymnasium
import numpy as np
import pytest

from rlnas.envs import EpisodeVecEnv, EpisodeVectorEnv, MorphEnv, MorphProblem
from rlnas.envs.shaping import STEP_REWARDS
from rlnas.errors import ConfigError
from rlnas.evaluation import Evaluation
from rlnas.layout import STOP
from rlnas.network import Network
from tests.envs.fakes import GraphEvaluator, fake_problem
from tests.evaluation.faults import CountingMeter

PAID = [name for name in STEP_REWARDS if name != "end"]
KINDS = pytest.mark.parametrize("kind", PAID)


def episode(env: MorphEnv, rng: np.random.Generator, *, seed: int = 0) -> tuple[list[float], list[dict[str, Any]]]:
    """Rewards and infos of a random episode, some of its actions illegal."""
    env.reset(seed=seed)
    rewards, infos, ended = [], [], False
    while not ended:
        legal = np.flatnonzero(env.action_masks())
        action = rng.integers(env.action_space.n) if rng.random() < 0.2 else rng.choice(legal)
        _, reward, ended, _, info = env.step(np.int64(action))
        rewards.append(reward)
        infos.append(info)
    return rewards, infos


@KINDS
@pytest.mark.parametrize("discount", [None, 0.9])
def test_the_discounted_return_is_that_of_the_end_alone(kind: str, discount: float | None) -> None:
    env = MorphEnv(problem=fake_problem(step_reward=kind, discount=discount))
    plain, rng, gamma = MorphEnv(problem=fake_problem()), np.random.default_rng(0), discount or 1.0
    moved = 0
    for seed in range(6):
        rewards, infos = episode(env, rng, seed=seed)
        end, _ = plain.replay(infos[-1])
        earned = sum(gamma**t * reward for t, reward in enumerate(rewards))
        assert earned == pytest.approx(gamma ** (len(rewards) - 1) * end, abs=1e-12)
        potentials = [0.0, *(info["potential"] for info in infos)]
        assert potentials[-1] == 0.0  # an ended episode promises nothing more
        between = [gamma * b - a for a, b in pairwise(potentials)]
        assert rewards[:-1] == pytest.approx(between[:-1]) and rewards[-1] == pytest.approx(end + between[-1])
        moved += any(rewards[:-1])
    assert moved >= 3


def test_an_evaluated_step_pays_what_stopping_is_worth_more_than_before() -> None:
    env = MorphEnv(problem=fake_problem(step_reward="evaluated"))
    env.reset(seed=4)
    worth = [env.fork().step(np.int64(STOP))[1]]
    for action in (3, 5):
        _, reward, _, _, info = env.step(np.int64(np.flatnonzero(env.action_masks())[action]))
        stopped = env.fork()
        _, rest, _, _, told = stopped.step(np.int64(STOP))
        worth.append(told["evaluation"]["reward"])
        assert reward == pytest.approx(worth[-1] - worth[-2])
        assert rest == pytest.approx(worth[0])  # paid so far: worth[-1] - worth[0]
        assert info["potential"] == pytest.approx(worth[-1] - worth[0])


def test_cost_is_paid_for_without_evaluating_anything() -> None:
    problem = fake_problem(step_reward="cost")
    env = MorphEnv(problem=problem)
    env.reset(seed=0)
    evaluator = problem.evaluator
    assert isinstance(evaluator, GraphEvaluator)
    actions = dict(zip(problem.space.layout.names, range(99), strict=False))
    conv = next(a for a in np.flatnonzero(env.action_masks()) if (a - 1) % 9 == actions["widen(2)"])
    _, grown, _, _, info = env.step(np.int64(conv))
    assert set(evaluator.seen) == {problem.space.start.key} and "evaluation" not in info
    assert grown < 0  # a larger network of the same accuracy is worth less
    start, graph = problem.space.start, env._episode.graph
    assert info["potential"] == pytest.approx(float(problem.start_reward) * ((graph.macs / start.macs) ** -0.07 - 1))


@KINDS
def test_all_forms_pay_the_same(kind: str) -> None:
    single = MorphEnv(problem=fake_problem(step_reward=kind, discount=0.95))
    batch = EpisodeVecEnv(fake_problem(step_reward=kind, discount=0.95), n_envs=3, seed=2)
    vector = EpisodeVectorEnv(3, problem=fake_problem(step_reward=kind, discount=0.95), seed=2)
    rng = np.random.default_rng(1)
    for _ in range(2):
        observation, _ = batch.reset(), vector.reset()
        earned, actions = [], []
        for _ in range(batch.max_steps):
            chosen = np.array([rng.choice(np.flatnonzero(mask)) for mask in observation["action_mask"]])
            observation, rewards, _, infos = batch.step(chosen)
            _, again, _, _, _ = vector.step(chosen)
            assert rewards.tolist() == np.float32(again).tolist()
            earned.append(again)
            actions.append(chosen)
        totals = np.sum(earned, axis=0)
        for i, info in enumerate(infos):
            assert info["episode"]["r"] == pytest.approx(totals[i])
            single.reset(seed=2)
            for t, step in enumerate(np.array(actions)[:, i]):
                _, reward, ended, _, _ = single.step(np.int64(step))
                if ended:
                    break
                assert reward == pytest.approx(earned[t][i])
            assert single._episode.graph.key == info["evaluation"]["graph_key"]


@KINDS
def test_states_forks_copies_and_replays_are_paid_alike(kind: str) -> None:
    env, rng = MorphEnv(problem=fake_problem(step_reward=kind)), np.random.default_rng(3)
    rewards, infos = episode(env, rng, seed=5)
    assert env.replay(infos[-1])[0] == pytest.approx(sum(rewards))
    env.reset(seed=5)
    env.step(np.int64(np.flatnonzero(env.action_masks())[2]))
    saved = env.state()
    twins = [env.fork(), copy.deepcopy(env)]
    action = np.int64(np.flatnonzero(env.action_masks())[7])
    paid = env.step(action)[1]
    assert [twin.step(action)[1] for twin in twins] == [paid, paid]
    env.restore(saved)
    assert env.step(action)[1] == paid != 0.0


def best_plans(problem: MorphProblem, gamma: float) -> tuple[set[tuple[int, ...]], list[float]]:
    """The plans of highest discounted return from the start, of a few actions; and the returns of all."""
    env = MorphEnv(problem=problem)
    env.reset(seed=0)
    chosen = [STOP, *np.flatnonzero(env.action_masks())[[2, 9, 14]]]
    returns: dict[tuple[int, ...], float] = {}
    for plan in product(chosen, repeat=problem.max_steps):
        env.reset(seed=0)
        total, ended = 0.0, False
        for t, action in enumerate(plan):
            if not ended:
                _, reward, ended, _, _ = env.step(np.int64(action))
                total += gamma**t * reward
        returns[tuple(map(int, plan))] = total
    most = max(returns.values())
    return {plan for plan, value in returns.items() if value > most - 1e-12}, list(returns.values())


@KINDS
def test_the_best_plans_stay_the_best(kind: str) -> None:
    settings = {"max_steps": 2}
    for gamma in (1.0, 0.8):
        plain, values = best_plans(fake_problem(**settings), gamma)
        shaped, others = best_plans(fake_problem(**settings, step_reward=kind, discount=gamma), gamma)
        assert shaped == plain and others == pytest.approx(values) and max(values) - min(values) > 0.01


class Failing(GraphEvaluator):
    """Fails on whatever has more than 20 nodes."""

    def evaluate(self, network: Network, *, seed: int) -> Evaluation:
        return Evaluation.failed("too deep") if len(network.graph) > 20 else super().evaluate(network, seed=seed)


def test_a_failed_network_on_the_way_is_worth_a_failure() -> None:
    settings = {"start_epochs": 0.1, "start_evaluations": 5, "variants": ["deepen 3"]}
    env = MorphEnv(evaluator=Failing(), step_reward="evaluated", **settings)
    env.reset(seed=0)
    start = env.fork().step(np.int64(STOP))[1]
    potentials, rewards = [0.0], []
    while len(env._episode.graph) <= 20:
        _, reward, _, _, info = env.step(np.int64(np.flatnonzero(env.action_masks())[1]))
        potentials.append(info["potential"])
        rewards.append(reward)
    assert potentials[-1] == pytest.approx(-start) and rewards == pytest.approx(np.diff(potentials).tolist())
    assert env.step(np.int64(STOP))[1] == pytest.approx(start)  # which makes 0 in all: what a failure is worth


def test_a_latency_that_is_known_is_paid_at_every_step_and_one_that_is_not_is_refused() -> None:
    env = gymnasium.make(
        "rlnas/MorphLatency-v0",
        evaluator=GraphEvaluator(),
        meter=CountingMeter(),
        start_epochs=0.1,
        start_evaluations=5,
        step_reward="cost",
    )
    env.reset(seed=0)
    mask = env.get_wrapper_attr("action_masks")()
    assert env.step(np.int64(np.flatnonzero(mask)[3]))[1] != 0.0
    with pytest.raises(ConfigError, match="known before anything is measured"):
        gymnasium.make("rlnas/MorphLatency-v0", step_reward="cost")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"step_reward": "ends"}, "Did you mean 'end'"),
        ({"discount": 0.9}, "does nothing"),
        ({"step_reward": "cost", "discount": 1.5}, "at most 1"),
        ({"step_reward": "cost", "discount": 0.0}, "above 0"),
        ({"step_reward": "evaluated", "screen": "synflow"}, "neither screen nor halving"),
    ],
)
def test_bad_settings_are_refused_at_once(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        fake_problem(**settings)


def test_steps_are_not_paid_where_evaluations_are_late() -> None:
    problem = fake_problem(step_reward="cost")
    with pytest.raises(ConfigError, match=r"reward\.step=end"):
        problem.check_lag()
