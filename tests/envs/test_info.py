"""What `info` holds, after every kind of step and of end, is what the page says; and how episodes end."""

from __future__ import annotations

import json
from typing import Any

import gymnasium
import numpy as np
import pytest

from rlnas.envs import EpisodeVecEnv, MorphEnv
from rlnas.evaluation import Evaluation
from rlnas.graph import Site
from rlnas.layout import STOP
from rlnas.network import Network
from tests.cli.running import REPOSITORY
from tests.envs.fakes import GraphEvaluator, fake_problem

PAGE = (REPOSITORY / "docs" / "environment.md").read_text()


def documented(title: str, *, number: int = 0) -> set[str]:
    """Names in the first column of a table of the page."""
    lines = PAGE.split(f"| `{title}` | meaning |")[number + 1].split("\n\n", 1)[0].splitlines()[2:]
    return {name.strip(' `"') for line in lines for name in line.split("|")[1].split(",")}


EVERY_STEP, LAST_STEP = documented("info[...]"), documented("info[...]", number=1)
RECORD = documented('info["evaluation"][...]')


class Failing(GraphEvaluator):
    """Fails on what is not the start network."""

    def evaluate(self, network: Network, *, seed: int) -> Evaluation:
        return Evaluation.failed("the loss\nis not finite") if network.history else super().evaluate(network, seed=seed)


def ended(env: MorphEnv, *places: int) -> tuple[float, dict[str, Any]]:
    """Take the legal actions at these places, then stop or go on until the end."""
    env.reset(seed=2)
    for place in places:
        _, _, over, _, info = env.step(np.int64(np.flatnonzero(env.action_masks())[place]))
        assert not over and set(info) == EVERY_STEP - {"potential"}
    _, reward, over, truncated, info = env.step(np.int64(STOP))
    assert over and not truncated
    assert LAST_STEP - {"rejected"} <= set(info) <= LAST_STEP | EVERY_STEP
    assert set(info["evaluation"]) == RECORD - {"cached"}
    json.dumps(info)
    return reward, info


def test_the_page_and_info_name_the_same() -> None:
    assert {"illegal_action", "potential"} == EVERY_STEP and "evaluation" in LAST_STEP and len(RECORD) > 15


def test_an_evaluated_network_is_described() -> None:
    env = MorphEnv(problem=fake_problem())
    reward, info = ended(env, 3, 5)
    record, graph = info["evaluation"], env._episode.graph
    assert (record["status"], record["reason"], record["reward"]) == ("ok", None, reward)
    assert record["graph_key"] == graph.key and record["macs"] == graph.macs and record["n_params"] == graph.n_params
    assert [str(Site.from_json(site)) for site in record["edits"]] == record["operators"] and len(record["edits"]) == 2
    assert record["start_id"] == env.problem.start_id and record["seed"] == info["seed"] == 2
    assert env.problem.service.store.get(record["cache_key"]).accuracy == record["accuracy"]
    assert info["reward_vector"] == {"accuracy": record["accuracy"], "minus_macs": -record["macs"]}
    assert len(info["actions"]) == 3 and info["actions"][-1] == STOP and "rejected" not in info


def test_a_failure_says_why_in_one_line() -> None:
    env = MorphEnv(evaluator=Failing(), start_epochs=0.1, start_evaluations=5)
    reward, info = ended(env, 3)
    record = info["evaluation"]
    assert (record["status"], record["reason"], record["accuracy"]) == ("failed", "the loss is not finite", None)
    assert reward == record["reward"] == 0.0 and info["reward_vector"] is None and record["cache_key"]


def test_a_network_that_is_rejected_says_which_limit_it_breaks() -> None:
    env = MorphEnv(problem=fake_problem(max_params="1.01x", max_macs=None, enforce="reject"))
    _, info = ended(env, 1)
    record = info["evaluation"]
    assert info["rejected"] and record["status"] == "infeasible" and "n_params <=" in record["reason"]
    assert record["cache_key"] == "" and info["reward_vector"] is None


def test_paid_steps_say_their_potential() -> None:
    env = MorphEnv(problem=fake_problem(step_reward="cost"))
    env.reset(seed=0)
    *_, info = env.step(np.int64(np.flatnonzero(env.action_masks())[3]))
    assert set(info) == EVERY_STEP


def test_the_batched_form_has_the_same_entries() -> None:
    env = EpisodeVecEnv(fake_problem(max_steps=2), n_envs=2)
    env.reset()
    for _ in range(2):
        *_, infos = env.step(np.zeros(2, dtype=np.int64))
    extra = {"episode", "terminal_observation", "TimeLimit.truncated"}
    for info in infos:
        assert set(info) == extra | {"illegal_action"} | LAST_STEP - {"rejected"} and set(info["evaluation"]) == RECORD


@pytest.mark.parametrize("limit", [1, 3])
def test_a_time_limit_truncates_and_nothing_is_evaluated(limit: int) -> None:
    problem = fake_problem()
    env = gymnasium.make("rlnas/Morph-v0", problem=problem, max_episode_steps=limit)
    evaluator: Any = problem.evaluator
    for _ in range(2):
        env.reset(seed=0)
        for step in range(limit):
            mask = env.get_wrapper_attr("action_masks")()
            _, reward, terminated, truncated, info = env.step(np.int64(np.flatnonzero(mask)[2]))
            assert (terminated, truncated, reward) == (False, step == limit - 1, 0.0)
        assert "evaluation" not in info and not evaluator.seen
    env.reset(seed=0)
    _, reward, terminated, truncated, info = env.step(STOP)
    assert terminated and reward > 0 and truncated == (limit == 1) and info["evaluation"]["status"] == "ok"


def test_the_number_of_steps_is_part_of_the_task() -> None:
    env = MorphEnv(problem=fake_problem(max_steps=2))
    seen, _ = env.reset(seed=0)
    left = [float(seen["context"][0])]
    for _ in range(2):
        seen, _, terminated, truncated, _ = env.step(np.int64(np.flatnonzero(env.action_masks())[2]))
        left.append(float(seen["context"][0]))
    assert left == [1.0, 0.5, 0.0] and terminated and not truncated
