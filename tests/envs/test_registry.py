"""Every registered id: made in all ways, checked by both checkers, and what its settings promise."""

from __future__ import annotations

import re
import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check
from stable_baselines3.common.env_checker import check_env as sb3_check

from rlnas.envs import EpisodeVectorEnv
from rlnas.layout import STOP
from rlnas.operators import get_operator
from tests.cli.running import REPOSITORY
from tests.envs.cases import CASES, registered


def case(id: str) -> Any:
    return next(one for one in CASES.values() if one.id == id)


@pytest.mark.parametrize("id", sorted(registered()))
def test_every_id_is_made_checked_and_played(id: str) -> None:
    settings = case(id).settings()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env: Any = gymnasium.make(id, **settings)
        gymnasium_check(gymnasium.make(id, disable_env_checker=True, **case(id).settings()).unwrapped)
        sb3_check(env.unwrapped)
        observation, info = env.reset(seed=0)
        assert info == {} and env.observation_space.contains(observation)
        ended = False
        while not ended:
            action = np.flatnonzero(observation["action_mask"])[-1]
            observation, reward, ended, truncated, info = env.step(action)
            assert not truncated and env.observation_space.contains(observation)
        assert np.isfinite(reward) and info["evaluation"]["status"] == "ok"
    vector = gymnasium.make_vec(id, 2, vectorization_mode="vector_entry_point", **case(id).settings())
    assert isinstance(vector, EpisodeVectorEnv) and vector.spec is not None and vector.spec.id == id


def test_growing_offers_only_what_keeps_the_function() -> None:
    problem: Any = case("rlnas/MorphGrow-v0").make().problem
    operators = [get_operator(variant.operator) for variant in problem.space.variants]
    assert all(operator.exact and not operator.shrinks for operator in operators) and len(operators) == 6


def test_compressing_ends_at_half_the_macs_or_less() -> None:
    env = case("rlnas/MorphCompress-v0").make()
    rng, start = np.random.default_rng(0), env.problem.space.start.macs
    for _ in range(5):
        env.reset(seed=0)
        assert not env.action_masks()[STOP]
        info: dict[str, Any] = {}
        while not env._episode.ended:
            *_, info = env.step(np.int64(rng.choice(np.flatnonzero(env.action_masks()))))
        assert info["evaluation"]["status"] == "ok" and info["evaluation"]["macs"] <= start / 2


def test_editing_cells_begins_with_a_whole_one() -> None:
    env = case("rlnas/NASBench201Edit-v0").make()
    env.reset(seed=0)
    assert env.problem.form == "edit" and env.action_masks()[STOP]


def test_the_page_lists_every_id() -> None:
    listed = re.findall(r"^\| `(rlnas/\w+-v\d)` \|", (REPOSITORY / "docs" / "environment.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(registered())


def test_settings_of_an_id_may_be_overridden_and_only_latency_is_not_deterministic() -> None:
    env: Any = gymnasium.make("rlnas/MorphCompress-v0", max_macs="80%", max_steps=2)
    space = env.unwrapped.problem.space
    assert space.limits.macs == int(0.8 * space.start.macs) and space.max_steps == 2
    assert {id for id in registered() if gymnasium.spec(id).nondeterministic} == {"rlnas/MorphLatency-v0"}
