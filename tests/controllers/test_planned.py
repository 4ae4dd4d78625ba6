from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pytest

from rlnas.controllers import Largest, RandomSearch, Uniform
from rlnas.envs import EpisodeVecEnv, TableProblem
from rlnas.envs.planning import largest_first
from rlnas.errors import ConfigError
from rlnas.spaces import DecisionSpace
from tests.controllers.toy import Toy, quiet

SPACE = DecisionSpace.of({"a": range(5), "b": range(5), "c": range(4)})
SIZES = np.add.outer(np.add.outer(np.arange(5) * 7, np.arange(5) * 3), np.arange(4))
ALLOWED = SIZES <= 20


def table() -> EpisodeVecEnv:
    return EpisodeVecEnv(TableProblem(SPACE, SIZES / 50, allowed=ALLOWED, columns={"macs": SIZES}), n_envs=4)


def played(kind: Any, batches: int, **arguments: Any) -> list[tuple[int, ...]]:
    """What was chosen in each episode."""
    found = []
    env = table()
    search = quiet(kind(env, seed=0, **arguments))
    for _ in range(batches):
        kept = list(search.env.batch.problem.queried)  # type: ignore[union-attr]
        search.learn(4 * 3, reset_num_timesteps=False)
        found += [number for number in search.env.batch.problem.queried if number not in kept]  # type: ignore[union-attr]
    return [SPACE.assignment(number) for number in found]


def test_the_largest_come_first_and_then_all_others() -> None:
    problem = table().batch.problem
    wanted = [tuple(SPACE.layout.slot_and_variant(a)[1] for a in plan) for plan in largest_first(problem, "macs")]
    assert sorted(played(Largest, 2)) == sorted(wanted[:8])
    whole = played(Largest, 40)  # more than there are: random ones then
    assert {*whole} == {*wanted} and len(wanted) == ALLOWED.sum()


def test_uniform_repeats_nothing_while_there_are_others() -> None:
    n = int(ALLOWED.sum())
    assert len({*played(Uniform, n // 4)}) == n // 4 * 4
    assert len({*played(Uniform, n // 4 + 2)}) == n


def test_uniform_is_not_what_random_is() -> None:
    """First choices: random takes each as often, uniform as often as networks begin so."""

    def shares(kind: Any) -> np.ndarray:
        firsts = []
        for seed in range(150):
            env = table()
            search = quiet(kind(env, seed=seed))
            search.learn(12)
            firsts += [SPACE.assignment(number)[0] for number in env.batch.problem.queried]  # type: ignore[attr-defined]
        return np.bincount(firsts, minlength=5) / len(firsts)

    expected = ALLOWED.sum(axis=(1, 2)) / ALLOWED.sum()
    assert shares(Uniform) == pytest.approx(expected, abs=0.08)
    assert abs(shares(RandomSearch) - expected).max() > 0.1


@pytest.mark.parametrize("kind", [Largest, Uniform])
def test_goes_on_where_it_was(kind: Any) -> None:
    first, whole = quiet(kind(table(), seed=0)), quiet(kind(table(), seed=0))
    first.learn(12)
    whole.learn(24)
    env = table()
    again = quiet(kind(env, seed=0))
    again.restore(first.state())
    again.learn(12)
    assert again.state() == whole.state()


def test_an_environment_that_cannot_tell() -> None:
    class Silent(Toy):
        def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
            raise AttributeError(method_name)

    for kind, method in ((Largest, "largest_first"), (Uniform, "sample_feasible")):
        with pytest.raises(ConfigError, match=f"'{kind.name}' needs an environment with {method}"):
            kind(Silent(), seed=0)


def test_the_plans_of_the_environment_are_played() -> None:
    env = Toy(n_envs=5)
    quiet(Largest(env, seed=3)).learn(30)
    (plans,) = env.env_method("largest_first", "macs", 3)
    assert [tuple(taken) for taken, _ in env.played] == list(islice(plans, 10))
