from __future__ import annotations

import numpy as np
import pytest

from rlnas.controllers import Evolution
from rlnas.controllers.changes import neighbours
from rlnas.controllers.search import Played
from rlnas.errors import ConfigError
from rlnas.layout import STOP
from tests.controllers.toy import Toy, quiet


def test_members_die_of_age_alone() -> None:
    env = Toy(n_envs=4)
    search = Evolution(env, seed=0, population=6, sample=2)
    quiet(search).learn(3 * 4 * 10)
    assert [member.actions for member in search.members] == [tuple(taken) for taken, _ in env.played[-6:]]
    assert [member.value for member in search.members] == pytest.approx([value for _, value in env.played[-6:]])


def test_the_first_are_random_and_the_rest_are_children_of_the_best_of_a_sample() -> None:
    env = Toy(n_envs=4)
    search = Evolution(env, seed=0, population=6, sample=6)
    seen = []
    for _ in range(8):
        before = list(search.members)
        quiet(search).learn(12)
        seen.append((before, list(search._plans)))
    assert seen[0][1] == [None] * 4
    assert [plan is None for plan in seen[1][1]] == [True, True, False, False]
    for before, plans in seen[2:]:
        for plan in plans:
            parents = [m for m in before if any(plan in choices for choices in neighbours(m).values())]
            assert parents and max(m.value for m in parents) > np.median([m.value for m in before])


def test_a_sample_of_one_does_not_choose() -> None:
    search = Evolution(Toy(n_envs=1), seed=0, population=2, sample=1)
    legal = ((STOP, 1, 2), (STOP, 1, 2), (STOP, 1, 2))
    search.end_batch([Played((1, 0, 0), legal, 0.0), Played((2, 2, 2), legal, 9.0)])
    plans = {search._child() for _ in range(60)}
    assert {plan for plan in plans if plan is not None and len(plan) == 0}, "a child of the worse one"


@pytest.mark.parametrize(("population", "sample"), [(5, 6), (5, 0)])
def test_bad_sizes(population: int, sample: int) -> None:
    with pytest.raises(ConfigError, match=f"sample={sample} must be at least 1 and at most population=5"):
        Evolution(Toy(), seed=0, population=population, sample=sample)
