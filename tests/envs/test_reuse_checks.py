"""Both libraries' checkers pass every registered environment and every kind of space, with warnings as errors."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check
from stable_baselines3.common.env_checker import check_env as sb3_check

from rlnas.envs.make import START_NETWORKS
from tests.envs.ids import FORMS, IDS, MORPH, QUICK, make, play, settings_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


def test_every_id_has_a_quick_form() -> None:
    assert set(QUICK) == set(IDS)
    assert {id for id, _ in FORMS.values()} <= set(IDS)


@pytest.mark.parametrize("name", [*IDS, *FORMS])
def test_both_checkers(name: str, folder: Path) -> None:
    env = make(name, folder)
    gymnasium_check(env)
    sb3_check(env)


@pytest.mark.parametrize("space", START_NETWORKS)
def test_both_checkers_on_every_start_network(space: str) -> None:
    env = gymnasium.make("rlnas/Morph-v0", **MORPH, space=space).unwrapped
    gymnasium_check(env)
    sb3_check(env)


@pytest.mark.parametrize("name", [*IDS, *FORMS])
def test_legal_and_illegal_steps_stay_within_the_spaces(name: str, folder: Path) -> None:
    env, rng = make(name, folder), np.random.default_rng(0)
    for _ in range(2):
        observation, _ = env.reset()
        ended = False
        while not ended:
            assert env.observation_space.contains(observation)
            any_action = rng.random() < 0.3
            mask = np.ones(env.action_space.n, bool) if any_action else env.action_masks()
            observation, _, ended, truncated, info = env.step(np.int64(rng.choice(mask.nonzero()[0])))
            assert not truncated and (any_action or not info["illegal_action"])
        assert env.observation_space.contains(observation)


@pytest.mark.parametrize("name", IDS)
def test_made_environments_come_with_gymnasiums_own_wrappers(name: str, folder: Path) -> None:
    id, settings = settings_of(name, folder)
    env = gymnasium.make(id, **settings)
    env.reset(seed=0)
    play(env.unwrapped, np.random.default_rng(0))
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(0)
    assert env.spec is not None and env.spec.id == id
    env.close()
