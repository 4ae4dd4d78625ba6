"""`rlnas/Build-v0` where decisions make networks that are evaluated: checkers, records, lineage, limits, states."""

from __future__ import annotations

import copy
import json
import pickle
import sqlite3
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env as gymnasium_check
from stable_baselines3.common.env_checker import check_env as sb3_check

from rlnas.controllers import CONTROLLERS, make_controller
from rlnas.envs import BuildEnv, BuildProblem, EpisodeVecEnv, EpisodeVectorEnv, MorphEnv, make_build_problem
from rlnas.errors import ConfigError, LimitError, SpaceError
from rlnas.evaluation import Store, TrainingEvaluator
from rlnas.evaluation.build import fresh_network
from rlnas.evaluation.service import training_seed
from rlnas.layout import STOP
from rlnas.rewards import REWARDS
from rlnas.spaces import Decision, Maker
from rlnas.spaces.builder import Builder
from rlnas.tasks import load_task
from tests.envs.fakes import GraphEvaluator
from tests.spaces.test_makers import SMALL

FORMS = ("build", "edit")


def problem(space: Any = "chain", **settings: Any) -> BuildProblem:
    """A problem on digits whose accuracies are a function of the graph."""
    sizes = SMALL[space] if isinstance(space, str) else {}
    made = make_build_problem(
        space=space, **{"evaluator": GraphEvaluator(), "start_evaluations": 5, "max_macs": "3x", **sizes} | settings
    )
    assert isinstance(made, BuildProblem)
    return made


def trained(**settings: Any) -> BuildProblem:
    """A problem whose networks are trained, a little."""
    return problem(**{"evaluator": "training", "epochs": 0.2, **settings})


def play(env: BuildEnv, rng: np.random.Generator, *, seed: int | None = None) -> tuple[float, dict[str, Any]]:
    env.reset(seed=seed)
    ended, reward, info = False, 0.0, {}
    while not ended:
        action = rng.choice(np.flatnonzero(env.action_masks()))
        seen, reward, ended, truncated, info = env.step(np.int64(action))
        assert not truncated and env.observation_space.contains(seen)
    return reward, info


@pytest.fixture(params=FORMS)
def form(request: Any) -> str:
    return str(request.param)


@pytest.mark.parametrize("space", SMALL)
def test_both_checkers(space: str, form: str) -> None:
    made = gymnasium.make("rlnas:rlnas/Build-v0", problem=problem(space, form=form)).unwrapped
    assert isinstance(made, BuildEnv)
    gymnasium_check(made)
    sb3_check(made)


def test_settings_make_and_train_a_network() -> None:
    env = gymnasium.make("rlnas:rlnas/Build-v0", space="chain", task="digits", layers=2, filters=[4], epochs=0.5)
    made = env.unwrapped
    assert isinstance(made, BuildEnv) and isinstance(made.problem, BuildProblem)
    reward, info = play(made, np.random.default_rng(0), seed=0)
    record = info["evaluation"]
    assert record["status"] == "ok" and reward == record["reward"] and 0 < record["accuracy"] < 1
    assert record["epochs"] == 0.5 and record["inherited_epochs"] == 0
    assert set(record["choices"]) == {d.name for d in made.problem.space.networks.decisions.decisions}
    json.dumps(info)
    env.close()


def test_a_network_is_trained_from_weights_that_its_evaluation_draws() -> None:
    """The service gives what the evaluator gives for fresh weights of the evaluation's own seed."""
    made = trained()
    env = BuildEnv(problem=made)
    _, info = play(env, np.random.default_rng(1), seed=3)
    record = info["evaluation"]
    candidate = made.candidate_of(record)
    assert candidate.graph.key == record["graph_key"] and candidate.fresh and not candidate.edits
    assert made.service.evaluator is not None
    seed = training_seed(record["cache_key"])
    recipe: dict[str, Any] = {"batch_size": 32, "optimizer": "adamw", "learning_rate": 0.01, "weight_decay": 0.01}
    evaluator = TrainingEvaluator(load_task("digits"), epochs=0.2, **recipe)
    alone = evaluator.evaluate(fresh_network(candidate.graph, seed=seed), seed=seed)
    assert alone.metrics is not None and alone.metrics.accuracy == record["accuracy"]
    kept, weights = made.service.trained(record["cache_key"]), alone.trained
    assert kept is not None and weights is not None
    assert all(torch.equal(kept.tensors[name], weights.tensors[name]) for name in weights.tensors)
    again = made.service.retrain(candidate, seed=record["seed"]).trained
    assert again is not None and again.content_hash == weights.content_hash


def test_the_reference_is_evaluated_in_the_same_way() -> None:
    made = trained()
    accuracies = [
        e.metrics.accuracy
        for e, _ in (made.judge([made.start_candidate], seed=made.seed + i)[0] for i in range(5))
        if e.metrics is not None
    ]
    assert list(made.reference.accuracies) == accuracies and len(set(accuracies)) > 1
    assert made.reference.epochs == 0.2 and made.reference.inherited_epochs == 0
    assert made.reference.macs == made.space.start.macs


def test_another_seed_of_the_search_shares_its_start() -> None:
    """What fresh networks do not inherit does not part their evaluations."""
    first, second = trained(seed=0), trained(seed=1)
    assert first.first_start_id == second.first_start_id


def test_hyper_parameters_are_part_of_the_recipe() -> None:
    made = trained(training={"learning_rate": [0.01, 0.3], "optimizer": ["adamw", "sgd"]})
    env = BuildEnv(problem=made)
    networks = made.space.networks
    records = []
    for rate in (0, 1):
        env.reset(seed=0)
        info: dict[str, Any] = {}
        for slot, choice in enumerate((*networks.reference[:-2], rate, 0)):
            *_, info = env.step(np.int64(networks.decisions.layout.action(slot, choice)))
        records.append(info["evaluation"])
    usual, other = records
    assert usual["graph_key"] == other["graph_key"] and usual["cache_key"] != other["cache_key"]
    assert usual["training"] == {"learning_rate": 0.01, "optimizer": "adamw"} and other["accuracy"] != usual["accuracy"]
    stored = made.service.store.get(other["cache_key"])
    assert stored is not None and json.loads(stored.recipe)["learning_rate"] == 0.3
    assert stored.candidate == made.candidate_of(other)
    plain = trained().service
    candidate = made.candidate_of(usual)
    without = type(candidate)(candidate.graph, candidate.start_id, fresh=True)
    own = made.service.cache_key(candidate, seed=0)  # type: ignore[union-attr]
    assert own == plain.cache_key(without, seed=0)  # type: ignore[union-attr]


def test_hyper_parameters_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="does not train"):
        problem(training=["learning_rate"])
    with pytest.raises(SpaceError, match="momentum=2"):
        trained(training={"momentum": [0.9, 2.0]})
    with pytest.raises(SpaceError, match="optimizer='lion'"):
        trained(training={"optimizer": ["lion"]})
    with pytest.raises(ConfigError, match="surrogate"):
        trained(training=["momentum"], screen="surrogate")
    with pytest.raises(ConfigError, match="control"):
        trained(control=True)


def test_processes_give_the_same_as_this_one() -> None:
    infos = []
    for workers in (0, 1):
        made = trained(workers=workers, training=["learning_rate"])
        env = EpisodeVecEnv(made, n_envs=3, seed=5)
        infos.append(play_batch(env, np.random.default_rng(0)))
        made.close()
    assert infos[0] == infos[1]


def play_batch(env: EpisodeVecEnv, rng: np.random.Generator) -> list[Any]:
    observation = env.reset()
    assert isinstance(observation, dict)
    infos: list[Any] = []
    for _ in range(env.max_steps):
        actions = [rng.choice(np.flatnonzero(mask)) for mask in observation["action_mask"]]
        observation, _, _, infos = env.step(np.array(actions))
        assert isinstance(observation, dict)
    return [info["evaluation"] for info in infos]


def test_distillation_learns_from_the_trained_reference() -> None:
    made = trained(distill=0.5, start_epochs=0.3)
    _, info = play(BuildEnv(problem=made), np.random.default_rng(0), seed=0)
    teacher = made.service.starts.get(made.first_start_id)
    assert info["evaluation"]["status"] == "ok" and teacher.epochs == 0.3
    assert trained(start_epochs=0.3).first_start_id == trained(start_epochs=0.1).first_start_id != made.first_start_id


@pytest.mark.parametrize("space", SMALL)
def test_mask_equals_legality_both_ways(space: str, form: str) -> None:
    made = problem(space, form=form, max_macs="150%")
    env, rng = BuildEnv(problem=made), np.random.default_rng(0)
    for _ in range(2):
        observation, _ = env.reset()
        while not env._episode.ended:
            mask = env.action_masks()
            assert mask.any() and np.array_equal(mask, observation["action_mask"].astype(bool))
            for action in rng.choice(len(mask), size=10, replace=False):
                before = env._episode.assignment  # type: ignore[attr-defined]
                twin = env.fork()
                assert twin._episode.step(int(action)) == mask[action]
                after = twin._episode.assignment  # type: ignore[attr-defined]
                assert (after != before) == (mask[action] and action != STOP)
            observation, *_ = env.step(np.int64(rng.choice(np.flatnonzero(mask))))
        graph = env._episode.graph  # type: ignore[attr-defined]
        assert made.space.limits.met_by(graph)


def test_illegal_actions_leave_no_network_and_cost() -> None:
    env = BuildEnv(problem=problem())
    env.reset()
    info: dict[str, Any] = {}
    ended, reward = False, 0.0
    while not ended:
        _, reward, ended, _, info = env.step(np.int64(STOP))
    record = info["evaluation"]
    assert record["status"] == "infeasible" and "decisions open" in record["reason"] and record["choices"] == {}
    assert reward == env.problem.reward(None) and info["reward_vector"] is None  # type: ignore[union-attr]
    assert env.replay(info) == (reward, info)
    json.dumps(info)


@pytest.mark.parametrize("enforce", ["reject", "penalty"])
def test_limits_may_be_enforced_otherwise(enforce: str) -> None:
    made = problem(max_macs="60%", enforce=enforce)
    env = BuildEnv(problem=made)
    infos = [play(env, np.random.default_rng(i))[1] for i in range(20)]
    over = [i["evaluation"] for i in infos if i["evaluation"]["macs"] > made.space.limits.macs]  # type: ignore[operator]
    assert 0 < len(over) < 20 and {record["status"] for record in over} == {"infeasible"}
    assert all((record["accuracy"] is None) == (enforce == "reject") for record in over)
    assert sum("rejected" in info for info in infos) == (len(over) if enforce == "reject" else 0)


def test_unreachable_limits_are_an_error_at_once() -> None:
    with pytest.raises(LimitError, match="macs <= 10"):
        problem(max_macs=10)
    with pytest.raises(LimitError, match="changes of the reference"):
        problem(max_macs="20%", form="edit", max_steps=1)


def test_edits_begin_at_the_reference_and_lead_into_the_limits() -> None:
    made = problem(form="edit", max_macs="50%", max_steps=9)
    env, rng = BuildEnv(problem=made), np.random.default_rng(0)
    env.reset()
    assert env._episode.graph == made.space.start and not env.action_masks()[STOP]  # type: ignore[attr-defined]
    for _ in range(30):
        record = play(env, rng)[1]["evaluation"]
        assert record["status"] == "ok" and record["macs"] <= made.space.limits.macs  # type: ignore[operator]


def test_the_reference_can_be_chosen() -> None:
    usual = problem().space
    given = problem(start={"filters1": 3, "1->2": 0}).space
    assert given.start.key != usual.start.key
    names = {d.name for d in usual.networks.decisions.decisions}
    chosen = given.networks.decisions.choices(given.networks.reference)
    assert chosen["filters1"] == 3 and chosen["1->2"] == 0 and set(chosen) == names
    with pytest.raises(SpaceError, match="filters9"):
        problem(start={"filters9": 3})
    with pytest.raises(ConfigError, match="chooses"):
        problem(start=usual.start)


@pytest.mark.parametrize("step_reward", ["cost", "evaluated"])
def test_every_step_may_be_paid_and_the_return_stays(form: str, step_reward: str) -> None:
    at_end, at_every = (BuildEnv(problem=problem(form=form, **more)) for more in ({}, {"step_reward": step_reward}))
    rng = np.random.default_rng(5)
    rewards: list[float] = []
    for _ in range(4):
        total, _ = play(at_end, rng, seed=2)
        actions = json.loads(at_end.state())["actions"]
        at_every.reset(seed=2)
        rewards = [at_every.step(np.int64(action))[1] for action in actions]
        assert sum(rewards) == pytest.approx(total) and (len(set(rewards)) > 2 or len(rewards) < 3)
    assert any(reward for reward in rewards[:-1])


def test_a_step_promises_what_is_decided_and_else_the_reference() -> None:
    made = problem(step_reward="cost", max_macs=None)
    env, networks = BuildEnv(problem=made), made.space.networks
    env.reset(seed=0)
    chosen = (networks.decisions.shape[0] - 1, *networks.reference[1:])
    _, reward, _, _, info = env.step(np.int64(networks.decisions.layout.action(0, chosen[0])))
    found = made.standing(env._episode)  # type: ignore[arg-type]
    assert found is not None and found[0].graph == networks.graph(chosen) and found[1] == made.start_candidate
    assert reward == info["potential"] != 0
    env.reset(seed=0)
    same = env.step(np.int64(networks.decisions.layout.action(0, networks.reference[0])))
    assert same[1] == 0


def test_states_forks_and_replays(form: str) -> None:
    env, rng = BuildEnv(problem=problem(form=form)), np.random.default_rng(0)
    for _ in range(3):
        env.reset(seed=4)
        while not env._episode.ended:
            state = env.state()
            twin, other = env.fork(), BuildEnv(problem=problem(form=form))
            seen = other.restore(state)
            action = np.int64(rng.choice(np.flatnonzero(env.action_masks())))
            assert all(np.array_equal(seen[name], twin._episode.observe()[name]) for name in seen)
            steps = [one.step(action) for one in (env, twin, other)]
            for step in steps[1:]:
                assert all(np.array_equal(steps[0][0][name], step[0][name]) for name in step[0])
                assert step[1:4] == steps[0][1:4]
        record = {"seed": 4, "actions": json.loads(env.state())["actions"]}
        assert env.replay(record)[1]["evaluation"]["graph_key"] == env._episode.graph.key  # type: ignore[attr-defined]
    with pytest.raises(SpaceError, match="another start"):
        BuildEnv(problem=problem(form=form, layers=2)).restore(env.state())


def test_copies_play_alike(form: str) -> None:
    env = BuildEnv(problem=trained(form=form))
    copies = [copy.deepcopy(env), pickle.loads(pickle.dumps(env))]
    played = [play(one, np.random.default_rng(2), seed=1) for one in (env, *copies)]
    assert played[0] == played[1] == played[2]


def test_two_environments_with_the_same_seed_are_alike() -> None:
    made = [BuildEnv(problem=trained()) for _ in range(2)]
    assert play(made[0], np.random.default_rng(7), seed=1) == play(made[1], np.random.default_rng(7), seed=1)
    reward, info = play(made[0], np.random.default_rng(7), seed=2)
    assert (
        info["evaluation"]["graph_key"] == play(made[1], np.random.default_rng(7), seed=1)[1]["evaluation"]["graph_key"]
    )
    assert info["evaluation"]["status"] == "ok" and isinstance(reward, float)


@pytest.mark.parametrize("name", CONTROLLERS)
def test_every_controller_searches(name: str) -> None:
    made = problem()
    env = EpisodeVecEnv(made, n_envs=4, seed=0)
    make_controller(name, env, seed=0, arguments={}).learn(3 * 4 * env.max_steps)
    evaluator = made.service.evaluator
    assert isinstance(evaluator, GraphEvaluator) and len(set(evaluator.seen)) > 4


@pytest.mark.parametrize("name", REWARDS)
def test_every_reward_pays(name: str) -> None:
    env = BuildEnv(problem=problem(reward=name, cost="macs"))
    rewards = [play(env, np.random.default_rng(i))[0] for i in range(4)]
    assert np.isfinite(rewards).all() and len(set(rewards)) > 1


def test_the_vector_form_plays_it() -> None:
    env = gymnasium.make_vec(
        "rlnas:rlnas/Build-v0", num_envs=2, problem=problem(), vectorization_mode="vector_entry_point"
    )
    assert isinstance(env, EpisodeVectorEnv)
    observation, _ = env.reset(seed=0)
    assert observation["action_mask"].shape[0] == 2


class Widths:
    """A space of one's own: a hidden layer."""

    def __init__(self, input_shape: tuple[int, ...], n_classes: int) -> None:
        self.shape, self.n_classes = input_shape, n_classes

    decisions = (Decision("width", (2, 4, 8)), Decision("activation", ("relu", "silu")))
    reference = {"width": 4, "activation": "relu"}  # noqa: RUF012

    def graph(self, choices: Any) -> Any:
        build = Builder(self.shape)
        x = build.conv("conv", build.image, choices["width"], 3)
        return build.classifier(build.add("act", choices["activation"], x), self.n_classes)


def test_a_space_of_ones_own() -> None:
    maker: Maker = Widths((1, 8, 8), 10)
    made = problem(Widths)
    assert made.space.networks.decisions.size == 6 and made.space.start == maker.graph(maker.reference)
    record = play(BuildEnv(problem=made), np.random.default_rng(0))[1]["evaluation"]
    assert record["status"] == "ok" and record["choices"].keys() == {"width", "activation"}


def test_edits_and_decisions_are_not_taken_for_each_other() -> None:
    with pytest.raises(ConfigError, match="Build-v0"):
        MorphEnv(space="chain")
    with pytest.raises(ConfigError, match="conv_stages"):
        BuildEnv(space="conv_stages")
    with pytest.raises(SpaceError, match="width"):
        BuildEnv(space="chain", width=3)


def test_old_stores_are_brought_up_to_date(tmp_path: Any) -> None:
    """A file without the columns that fresh candidates need gets them, and its rows stay what they were."""
    made = trained(store=tmp_path / "evaluations.sqlite")
    _, info = play(BuildEnv(problem=made), np.random.default_rng(0), seed=0)
    made.close()
    with sqlite3.connect(tmp_path / "evaluations.sqlite") as connection:
        for column in ("fresh", "settings"):
            connection.execute(f"ALTER TABLE evaluations DROP COLUMN {column}")
    connection.close()
    with Store(tmp_path / "evaluations.sqlite") as store:
        record = store.get(info["evaluation"]["cache_key"])
        assert record is not None and (record.fresh, record.settings) == (0, "{}")
