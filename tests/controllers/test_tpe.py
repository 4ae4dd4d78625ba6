from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from rlnas.controllers import TPE, RandomSearch
from rlnas.controllers import tpe as module
from rlnas.controllers.search import Played
from rlnas.errors import ConfigError
from tests.controllers.test_search import Decisions
from tests.controllers.toy import Toy, quiet


def test_finds_good_decisions() -> None:
    """Mean of the last 40 of 80 episodes; random search has a mean of 0.6."""

    def late_mean(kind: Any, seed: int) -> float:
        env = Decisions(slots=4, nodes=4, variants=4, max_steps=4)
        quiet(kind(env, seed=seed)).learn(4 * 80)
        return float(np.mean([reward for _, reward in env.played[-40:]]))

    gains = [late_mean(TPE, seed) - late_mean(RandomSearch, seed) for seed in range(3)]
    assert min(gains) > 0.3, gains


def test_another_set_of_legal_actions_knows_of_the_same_episodes() -> None:
    """Of 1, 2 and 3 the last is best by far; where it is not legal the second is."""
    search = TPE(Toy(n_envs=1), seed=0)
    legal = ((1, 2, 3), (0,), (0,))
    search.end_batch([Played((a, 0, 0), legal, float(a)) for a in (1, 2, 3) * 10])
    assert [search._suggest(0, (1, 2, 3)) for _ in range(20)].count(3) > 10
    search.end_batch([])
    assert [search._suggest(0, (1, 2)) for _ in range(20)].count(2) > 12


def test_random_before_it_knows_enough() -> None:
    search = TPE(Toy(n_envs=1), seed=0, n_startup_trials=31)
    search.end_batch([Played((a, 0, 0), ((1, 2, 3), (0,), (0,)), float(a)) for a in (1, 2, 3) * 10])
    found = [search._suggest(0, (1, 2, 3)) for _ in range(60)]
    assert min(found.count(action) for action in (1, 2, 3)) > 8


def test_few_estimators_give_the_same_search(monkeypatch: pytest.MonkeyPatch) -> None:
    def play() -> list[tuple[list[int], float]]:
        env = Toy(n_envs=5)
        quiet(TPE(env, seed=0)).learn(3 * 30)
        return env.played

    kept = play()
    monkeypatch.setattr(module, "ESTIMATORS", 1)
    assert [reward for _, reward in play()] == [reward for _, reward in play()]
    assert len(kept) == 30


@pytest.mark.parametrize("name", ["n_startup_trials", "n_ei_candidates"])
def test_numbers_below_one(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}=0.* must be at least 1"):
        TPE(Toy(), seed=0, **{name: 0})


def test_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"needs Optuna: pip install 'rlnas\[tpe\]'"):
        TPE(Toy(), seed=0)
