"""Gymnasium's vector environments: in this process, and in processes that were forked or spawned."""

from __future__ import annotations

import multiprocessing
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from tests.envs.ids import IDS, MEASURED, make, play, same, settings_of

SPAWNED_QUICKLY = "rlnas/NASBench201-v0"


def compare(name: str, folder: Path, mode: str, **kwargs: Any) -> None:
    """Play legal actions in a vector environment; every episode has to give what a single environment gives."""
    id, settings = settings_of(name, folder)
    vector = gymnasium.make_vec(id, num_envs=2, vectorization_mode=mode, vector_kwargs=kwargs, **settings)
    singles = [make(name, folder) for _ in range(2)]
    try:
        observations, _ = vector.reset(seed=[3, 4])
        for seed, single in zip((3, 4), singles, strict=True):
            single.reset(seed=seed)
        rng = np.random.default_rng(0)
        ended = np.zeros(2, bool)
        for _ in range(2 * singles[0].max_steps):
            actions = np.array([rng.choice(mask.nonzero()[0]) for mask in observations["action_mask"]])
            observations, rewards, terminated, _, infos = vector.step(actions)
            for i, single in enumerate(singles):
                seen = {entry: values[i] for entry, values in observations.items()}
                if ended[i]:  # this step reset it
                    assert same(seen, single.reset()[0]) and rewards[i] == 0
                    continue
                expected, reward, over, _, info = single.step(actions[i])
                assert same(seen, expected) and over == terminated[i]
                if over:
                    assert infos["evaluation"]["graph_key"][i] == info["evaluation"]["graph_key"]
                    assert name == MEASURED or rewards[i] == reward
            ended = terminated
    finally:
        vector.close()


@pytest.mark.parametrize("name", IDS)
def test_sync(name: str, tmp_path: Path) -> None:
    compare(name, tmp_path, "sync")


@pytest.mark.skipif(sys.platform != "linux", reason="fork is safe on Linux only")
@pytest.mark.parametrize("name", IDS)
def test_async_by_fork(name: str, tmp_path: Path) -> None:
    compare(name, tmp_path, "async", context="fork")


@pytest.mark.parametrize("name", [n if n == SPAWNED_QUICKLY else pytest.param(n, marks=pytest.mark.slow) for n in IDS])
def test_async_by_spawn(name: str, tmp_path: Path) -> None:
    compare(name, tmp_path, "async", context="spawn")


@pytest.mark.skipif(sys.platform != "linux", reason="fork is safe on Linux only")
def test_environments_that_were_used_before_the_fork_go_on_in_the_child(tmp_path: Path) -> None:
    """A store on disk and the processes of a pool belong to the process that opened them."""
    id, settings = settings_of("rlnas/Morph-v0", tmp_path)
    settings |= {"store": tmp_path / "evaluations.sqlite"}
    used = gymnasium.make(id, **settings).unwrapped
    used.reset(seed=0)
    expected = used.step(np.int64(0))[1]
    known = used.problem.service.store.count()
    vector = gymnasium.vector.AsyncVectorEnv([lambda: used] * 2, context="fork")
    try:
        vector.reset(seed=[0, 0])
        _, rewards, terminated, _, _ = vector.step(np.zeros(2, np.int64))
        assert terminated.all() and all(rewards == expected)
        assert used.problem.service.store.count() == known, "the children found all of it in the store"
    finally:
        vector.close()
    assert not multiprocessing.active_children()
    used.reset()
    assert play(used, np.random.default_rng(0))[-1]["terminated"]
