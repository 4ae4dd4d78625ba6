"""Random play in every space: the same again, forks, replays, masks; and, at length, no leak and no stray value."""

from __future__ import annotations

import ctypes
import gc
import hashlib
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlnas.envs import EpisodeEnv
from rlnas.envs.morph_episode import MorphEpisode
from rlnas.evaluation.build import build
from rlnas.layout import STOP
from tests.envs.cases import CASES, registered

REPEATS = 20
REPOSITORY = Path(__file__).parents[2]
EVERY = pytest.mark.parametrize("name", CASES)


def what(env: EpisodeEnv) -> str:
    """Hash of all that a state shows: the observation, and the architecture with the names and order of its nodes."""
    seen = env._episode.observe()
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(seen):
        digest.update(np.ascontiguousarray(seen[name]).tobytes())
    if isinstance(env._episode, MorphEpisode):
        graph = env._episode.graph
        digest.update(json.dumps([graph.key, graph.order, graph.to_json()]).encode())
    return digest.hexdigest()


def choose(env: EpisodeEnv, rng: np.random.Generator, *, go_on: bool = False) -> np.int64:
    """A random legal action; with ``go_on`` not STOP, where there is another."""
    legal = np.flatnonzero(env.action_masks())
    others = legal[legal != STOP]
    return np.int64(rng.choice(others if go_on and len(others) else legal))


def begin(env: EpisodeEnv, rng: np.random.Generator) -> None:
    """Go to a random state in which the episode goes on."""
    env.reset(seed=int(rng.integers(1000)))
    for _ in range(int(rng.integers(env.max_steps))):
        action = choose(env, rng, go_on=True)
        if action == STOP:
            break
        env.step(action)


def walked(name: str, seed: int) -> list[str]:
    """What the states of a random episode show."""
    env, rng = CASES[name].make(), np.random.default_rng(seed)
    env.reset(seed=seed)
    found = [what(env)]
    while env._episode.steps_left > 1:
        action = choose(env, rng, go_on=True)
        if action == STOP:
            break
        env.step(action)
        found.append(what(env))
    return found


def test_every_registered_id_has_a_case() -> None:
    assert {case.id for case in CASES.values()} == registered()


@EVERY
def test_the_same_action_from_the_same_state_gives_the_same_hash(name: str) -> None:
    env, rng = CASES[name].make(), np.random.default_rng(0)
    for _ in range(2):
        begin(env, rng)
        action, before = choose(env, rng, go_on=True), what(env)
        if env._episode.steps_left == 1:
            continue
        found = set()
        for _ in range(REPEATS):
            twin = env.fork()
            assert what(twin) == before
            twin.step(action)
            found.add(what(twin))
        assert len(found) == 1 and what(env) == before
        assert before not in found


def test_another_process_with_other_hashes_sees_the_same() -> None:
    names = ["residual", "mobile", "transformer", "table, edited"]
    code = f"from tests.envs.test_fuzz import walked; print([walked(n, 1) for n in {names!r}])"
    salt = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"  # ours is random, or given
    environment = os.environ | {"PYTHONHASHSEED": salt, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str([walked(n, 1) for n in names])


@EVERY
def test_a_fork_that_does_the_same_sees_and_gets_the_same(name: str) -> None:
    """A fork shares results; a copy does not, so that it has every network made and judged anew."""
    case = CASES[name]
    env, rng = case.make(), np.random.default_rng(1)
    begin(env, rng)
    copied: EpisodeEnv = pickle.loads(pickle.dumps(env))
    twins = [env.fork(), copied]
    info: dict[str, Any] = {}
    while not env._episode.ended:
        action = choose(env, rng)
        seen, reward, ended, truncated, info = env.step(action)
        for twin in twins:
            other, paid, *ends, told = twin.step(action)
            assert sorted(other) == sorted(seen) and all(np.array_equal(seen[entry], other[entry]) for entry in seen)
            assert (paid, *ends) == (reward, ended, truncated)
            told.get("evaluation", {}).pop("cached", None), info.get("evaluation", {}).pop("cached", None)
            assert told == info
    if case.tensors:
        weights = [_weights(e) for e in (env, *twins)]
        assert weights[0] == weights[1] == weights[2]


def _weights(env: EpisodeEnv) -> str:
    """Hash of the network that an episode ended with, its inherited weights included."""
    assert isinstance(env._episode, MorphEpisode)
    problem: Any = env.problem
    candidate = problem.candidate(env._episode)
    return build(candidate, problem.service.starts.get(candidate.start_id), problem.service.task).content_hash


@EVERY
def test_episodes_replay_from_their_records(name: str) -> None:
    env, again, rng = CASES[name].make(), CASES[name].make(), np.random.default_rng(2)
    for seed in (3, 4):
        env.reset(seed=seed)
        reward, info = 0.0, dict[str, Any]()
        while not env._episode.ended:
            _, reward, _, _, info = env.step(
                np.int64(rng.integers(env.action_space.n)) if rng.random() < 0.2 else choose(env, rng)
            )
        record = json.loads(json.dumps({"seed": info["seed"], "actions": info["actions"]}))
        paid, told = again.replay(record)
        assert paid == reward and what(again) == what(env)
        assert told["evaluation"] | {"cached": None} == info["evaluation"] | {"cached": None}
        saved, seen = env.state(), env._episode.observe()
        env.reset()
        assert all(np.array_equal(value, seen[entry]) for entry, value in env.restore(saved).items())


@EVERY
def test_the_mask_is_what_is_legal(name: str) -> None:
    """Actions of the mask change the state, or stop; all others do nothing but use a step."""
    env, rng = CASES[name].make(), np.random.default_rng(3)
    for _ in range(2):
        begin(env, rng)
        mask = env.action_masks()
        assert mask.any() and np.array_equal(mask, env._episode.observe()["action_mask"].astype(bool))
        legal, illegal = np.flatnonzero(mask), np.flatnonzero(~mask)
        some = {
            *rng.choice(legal, min(12, len(legal)), replace=False),
            *rng.choice(illegal, min(12, len(illegal)), replace=False),
        }
        for action in some:
            episode = env.fork()._episode
            before = _place(episode)
            assert episode.step(int(action)) == mask[action]
            assert (_place(episode) != before) == (mask[action] and action != STOP)
            assert episode.ended == (episode.steps_left == 0 or (mask[action] and action == STOP))


def _place(episode: Any) -> Any:
    """Where an episode is, whatever way it came."""
    return episode.graph.to_json() if isinstance(episode, MorphEpisode) else episode.assignment


def play(env: EpisodeEnv, steps: int, rng: np.random.Generator) -> None:
    """Random steps, some of them illegal, every observation checked."""
    seen, _ = env.reset(seed=0)
    for _ in range(steps):
        assert env.observation_space.contains(seen)
        action = (
            rng.integers(env.action_space.n) if rng.random() < 0.1 else rng.choice(seen["action_mask"].nonzero()[0])
        )
        seen, reward, ended, truncated, info = env.step(np.int64(action))
        assert np.isfinite(reward) and not truncated and ended == ("evaluation" in info)
        if ended:
            assert env.observation_space.contains(seen)
            json.dumps(info["evaluation"])
            seen, _ = env.reset()


@EVERY
def test_random_steps_stay_in_the_space(name: str) -> None:
    play(CASES[name].make(), 40, np.random.default_rng(4))


STEPS = 100_000
GROWTH = 1.01
"""What a process may grow to once all memories are full."""


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_100_000_random_steps_over_all_spaces(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    store = {"store": tmp_path / "store.sqlite"} if case.tensors else {}
    play(case.make(**store), STEPS // len(CASES) + 1, np.random.default_rng(5))


def resident_bytes() -> int:
    """Memory of this process that lies in RAM, once what can be given back was."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("name", "steps"), [("growing", 3_000), ("cells, edited", 20_000)])
def test_memory_is_flat_once_memories_are_full(name: str, steps: int, tmp_path: Path) -> None:
    case, rng = CASES[name], np.random.default_rng(6)
    env = case.make(**({"store": tmp_path / "store.sqlite"} if case.tensors else {}))
    play(env, steps, rng)
    full, sizes = resident_bytes(), []
    for _ in range(3):
        play(env, steps // 2, rng)
        sizes.append(resident_bytes())
    assert max(sizes) <= GROWTH * full, [size / full for size in sizes]
