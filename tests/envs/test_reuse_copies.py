"""Pickles and deep copies go on like the original, and hold nothing that belongs to a process."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlnas.envs import EpisodeVecEnv, EpisodeVectorEnv, MorphEnv
from tests.envs.fakes import fake_problem
from tests.envs.ids import FORMS, IDS, make, play, same, varying
from tests.envs.tables import table

COPIES: dict[str, Callable[[Any], Any]] = {
    "deep copy": copy.deepcopy,
    "pickle": lambda env: pickle.loads(pickle.dumps(env)),
}


@pytest.mark.parametrize("name", [*IDS, *FORMS])
def test_copies_go_on_alike_before_and_after_steps(name: str, tmp_path: Path) -> None:
    env = make(name, tmp_path)
    env.reset(seed=2)
    for steps in (0, 1, None):  # as made, within an episode, and after one that was evaluated
        play(env, np.random.default_rng(0), steps=steps)
        twins = [copied(env) for copied in COPIES.values()]
        for twin in twins:
            assert twin.state() == env.state() and same(twin.action_masks(), env.action_masks())
        if steps is None:
            anew = env.reset()
            assert all(same(twin.reset(), anew) for twin in twins)
        before = env.state()
        first, *others = (play(e, np.random.default_rng(1)) for e in (env.fork(), *twins))
        assert first[-1]["terminated"] and all(same(first, other, but=varying(name)) for other in others)
        assert env.state() == before  # the twins' steps are their own


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("make_problem", [fake_problem, table])
def test_batches_copy_too(way: str, make_problem: Callable[[], Any]) -> None:
    problem = make_problem()
    for batch in (EpisodeVecEnv(problem, n_envs=2, seed=0), EpisodeVectorEnv(2, problem=problem)):
        batch.reset()
        actions = batch.action_masks().argmax(axis=1)
        batch.step(actions)
        twin = COPIES[way](batch)
        assert same(twin.action_masks(), batch.action_masks())
        actions = batch.action_masks().argmax(axis=1)
        assert same(twin.step(actions)[0], batch.step(actions)[0])


@pytest.mark.parametrize("way", COPIES)
def test_stores_and_processes_stay_behind(way: str, tmp_path: Path) -> None:
    problem = fake_problem(workers=1, store=tmp_path / "evaluations.sqlite")
    env = MorphEnv(problem=problem)
    assert not (tmp_path / "evaluations.sqlite").exists(), "the store opens when it is needed"
    env.reset(seed=0)
    reward = env.step(np.int64(0))[1]
    try:
        twin = COPIES[way](env)
        assert not twin.problem.service._executor._workers and problem.service._executor._workers
        assert twin.problem.service.store._connection is None and problem.service.store._connection is not None
        seen = len(twin.problem.evaluator.seen)
        twin.reset()
        _, again, _, _, info = twin.step(np.int64(0))  # answered by the store's file, which the twin opens itself
        assert again == reward and not twin.problem.evaluator.seen[seen:] and info["evaluation"]["status"] == "ok"
        twin.close()
    finally:
        env.close()
