"""States as text, and as files that carry the weights they need to another machine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlnas.envs import BuildEnv, MorphEnv, make_problem
from rlnas.envs.single import STATE_FILE
from rlnas.errors import GraphError, SpaceError
from rlnas.evaluation import build
from rlnas.layout import STOP
from tests.envs.fakes import GraphEvaluator, fake_problem
from tests.envs.tables import table


class WeighingEvaluator(GraphEvaluator):
    """Judges weights, so that others are worth another reward."""

    def evaluate(self, network: Any, *, seed: int) -> Any:
        found = super().evaluate(network, seed=seed)
        weight = float(next(iter(network.tensors.values())).flatten()[0])
        object.__setattr__(found.metrics, "accuracy", 0.5 + 0.1 * np.tanh(weight))
        return found


def other(seed: int = 0) -> MorphEnv:
    """An environment on a machine of its own, where the start network has weights of its own."""
    problem = make_problem(seed=seed, evaluator=WeighingEvaluator(), start_epochs=0.1, start_evaluations=5)
    return MorphEnv(problem=problem)


def begun(env: MorphEnv) -> MorphEnv:
    """Two steps into an episode."""
    env.reset(seed=7)
    for place in (3, 5):
        env.step(np.int64(np.flatnonzero(env.action_masks())[place]))
    return env


def finish(env: MorphEnv) -> tuple[float, dict[str, Any], str]:
    """End an episode; gives the reward, the info, and the hash of the network with its inherited weights."""
    env.step(np.int64(np.flatnonzero(env.action_masks())[4]))
    _, reward, _, _, info = env.step(np.int64(STOP))
    problem = env.problem
    candidate = problem.candidate(env._episode)
    network = build(candidate, problem.service.starts.get(candidate.start_id), problem.service.task)
    return reward, info, network.content_hash


def test_files_carry_a_state_to_another_machine(tmp_path: Path) -> None:
    env = begun(other())
    env.save_state(tmp_path)
    names = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    folders = ("start", "first_start")
    assert names == {STATE_FILE, *(f"{f}/{n}" for f in folders for n in ("graph.json", "weights.safetensors"))}
    there = other(seed=5)
    unlike = finish(begun(other(seed=5)))
    seen = there.load_state(tmp_path)
    assert all(np.array_equal(value, env._episode.observe()[name]) for name, value in seen.items())
    here, found = finish(env), finish(there)
    assert here[0] == found[0] != unlike[0] and here[2] == found[2] != unlike[2]
    assert here[1] == found[1]


def test_what_was_trained_here_before_does_not_count_after_loading(tmp_path: Path) -> None:
    env, there = begun(other()), begun(other(seed=5))
    env.save_state(tmp_path)
    before = finish(there)
    there.load_state(tmp_path)
    assert finish(there)[0] == finish(env)[0] != before[0]
    assert there.problem.reference == env.problem.reference


def test_a_promoted_start_goes_along_with_the_one_that_rewards_refer_to(tmp_path: Path) -> None:
    env = begun(other())
    _, info, _ = finish(env)
    trained = env.problem.service.trained(info["evaluation"]["cache_key"])
    assert trained is not None
    env.problem.promote(trained)
    begun(env).save_state(tmp_path)
    there = other(seed=5)
    there.load_state(tmp_path)
    assert there.problem.start_id == env.problem.start_id != env.problem.first_start_id
    assert there.problem.first_start_id == env.problem.first_start_id
    assert finish(there) == finish(env)


def test_text_is_the_same_before_and_after_weights_are_made() -> None:
    env = begun(other())
    before, twin = env.state(), env.fork()
    assert "first_start_id" not in env.problem.__dict__ and twin.step(np.int64(STOP))[2]
    assert env.state() == before == begun(other(seed=5)).state()


@pytest.mark.parametrize(
    "settings", [{"width": 4}, {"variants": ["widen 2"]}, {"max_steps": 3}, {"max_macs": "3x"}, {"max_nodes": 60}]
)
def test_states_of_another_space_are_refused(settings: dict[str, Any], tmp_path: Path) -> None:
    env, there = begun(MorphEnv(problem=fake_problem())), MorphEnv(problem=fake_problem(**settings))
    with pytest.raises(SpaceError, match="another start or another space"):
        there.restore(env.state())
    env.save_state(tmp_path)
    if "width" not in settings:  # whose network comes along
        with pytest.raises(SpaceError, match="another start or another space"):
            there.load_state(tmp_path)


def test_a_table_has_no_weights_to_carry(tmp_path: Path) -> None:
    env, there = BuildEnv(problem=table()), BuildEnv(problem=table())
    env.reset(seed=3)
    env.step(np.int64(np.flatnonzero(env.action_masks())[0]))
    env.save_state(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [STATE_FILE]
    there.load_state(tmp_path)
    assert there.state() == env.state()


@pytest.mark.parametrize(
    ("damage", "error", "words"),
    [
        (lambda folder: (folder / STATE_FILE).write_text("{}"), SpaceError, "no state"),
        (lambda folder: (folder / STATE_FILE).write_bytes(b"\xff\xfe\x00"), SpaceError, "cannot read"),
        (lambda folder: (folder / STATE_FILE).unlink(), SpaceError, "cannot read"),
        (lambda folder: (folder / "start" / "weights.safetensors").write_bytes(b"nothing"), GraphError, "not a stored"),
        (lambda folder: (folder / "first_start" / "graph.json").unlink(), GraphError, "no network in"),
    ],
)
def test_damaged_files_are_one_line(
    damage: Callable[[Path], Any], error: type[Exception], words: str, tmp_path: Path
) -> None:
    env = begun(MorphEnv(problem=fake_problem()))
    env.save_state(tmp_path)
    damage(tmp_path)
    before = env.state()
    with pytest.raises(error, match=words) as caught:
        env.load_state(tmp_path)
    assert "\n" not in str(caught.value) and env.state() == before


@pytest.mark.parametrize("text", ["", "[]", "3", '{"start": 1}', '{"start": "a", "seed": "x", "actions": []}'])
def test_other_text_is_no_state(text: str) -> None:
    with pytest.raises(SpaceError, match="no state"):
        MorphEnv(problem=fake_problem()).restore(text)


def test_impossible_actions_are_no_state() -> None:
    env = begun(MorphEnv(problem=fake_problem()))
    before, data = env.state(), json.loads(env.state())
    for actions, words in (([10**6], "whole number"), ([0] * 9, "has ended"), (["a"], "whole number")):
        with pytest.raises(SpaceError, match=words):
            env.restore(json.dumps(data | {"actions": actions}))
    assert env.state() == before


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpaceError, match="cannot write the state"):
        MorphEnv(problem=fake_problem()).save_state(tmp_path / "file")
