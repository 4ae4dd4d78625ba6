from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rlnas.controllers import LocalSearch
from rlnas.controllers.changes import neighbours
from rlnas.controllers.local_search import MOVES
from rlnas.controllers.search import Played
from rlnas.errors import ConfigError
from rlnas.layout import STOP
from tests.controllers.toy import GOOD, Toy, quiet


def edits(taken: list[int]) -> tuple[int, ...]:
    return tuple(action for action in taken if action != STOP)


def episode(*actions: int, legal: Any = ((0, 1, 2), (0, 1, 2), (0, 1, 2)), value: float = 1.0) -> Played:
    return Played(actions, legal, value)


def test_neighbours_differ_by_one_change() -> None:
    assert neighbours(episode(1, 2, 0)) == {
        "replace": [(2, 2), (1, 1)],
        "append": [(1, 2, 1), (1, 2, 2)],
        "delete": [(2,), (1,)],
    }
    assert neighbours(episode(1, 2, 1)).keys() == {"replace", "delete"}
    assert neighbours(episode(0, 0, 0)) == {"append": [(1,), (2,)]}
    assert neighbours(episode(0, 0, 0, legal=((0,), (0,), (0,)))) == {}


def test_decisions_one_after_another_are_only_replaced() -> None:
    assert neighbours(episode(1, 3, legal=((1, 2), (3, 4, 5)))) == {"replace": [(2, 3), (1, 4), (1, 5)]}


def test_begins_with_stop_and_changes_one_thing_at_a_time() -> None:
    env = Toy(n_envs=8, max_steps=4)
    search = LocalSearch(env, seed=1)
    quiet(search).learn(32)
    first = [edits(taken) for taken, _ in env.played]
    assert first[0] == ()
    assert all(len(taken) == 1 for taken in first[1:])
    for _ in range(8):
        incumbent = search.incumbent
        assert incumbent is not None and search.best is not None
        before, best = incumbent.edits, search.best.value
        begun = len(env.played)
        search.learn(32)
        batch = env.played[begun:]
        for (taken, _), plan in zip(batch, search._plans, strict=True):
            assert plan is None or one_change_apart(before, edits(taken)), (before, taken)
        top = max(reward for _, reward in batch)
        assert search.best.value == pytest.approx(max(best, top))
        assert search.incumbent is not None and (search.incumbent.edits == before) == (top <= best)


def one_change_apart(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """True if b comes from a by appending, deleting or replacing one action.

    Of the other actions only one can become illegal here, if the new one repeats it; it is then replaced too.
    """
    if len(b) == len(a) + 1:
        return b[:-1] == a
    if len(b) == len(a) - 1:
        return any(b == a[:i] + a[i + 1 :] for i in range(len(a)))
    return len(a) == len(b) and sum(x != y for x, y in zip(a, b, strict=True)) <= 2


@pytest.mark.parametrize("move", MOVES)
def test_tries_no_plan_twice_and_begins_anew_at_a_local_optimum(move: str) -> None:
    env = Toy(n_envs=1, nodes=2, slots=2, variants=2, max_steps=2)  # 17 sequences at most
    search = LocalSearch(env, seed=0, move=move)
    plans: list[Any] = []
    anew = 0
    for _ in range(40):
        quiet(search).learn(2)
        plans += [plan for plan in search._plans if plan is not None]
        anew += search._plans == [None]
    assert len(set(plans)) == len(plans) > 4
    assert anew > 3
    assert search.best is not None and search.best.value == pytest.approx(1 + 2 * GOOD)


def test_where_it_moves_to() -> None:
    """The incumbent is worth 1; of a batch of three two are better."""
    batch = [episode(1, 0, 0, value=0.5), episode(2, 0, 0, value=1.2), episode(2, 2, 0, value=1.4)]
    for move, expected in (("first", 1.2), ("batch", 1.4), ("all", 1.0)):
        search = LocalSearch(Toy(n_envs=3), seed=0, move=move)
        search.end_batch([episode(0, 0, 0, value=1.0)])
        search.end_batch(batch)
        assert search.incumbent is not None and search.incumbent.value == expected
        assert search.best is not None and search.best.value == 1.4
    while search.incumbent.value == 1.0:
        search.begin_batch()  # until no neighbour is left: (1,) and (2,) are known, so at once
    assert search.incumbent.value == 1.4


def test_an_edit_that_became_illegal_gives_way() -> None:
    env = Toy(n_envs=6, max_steps=2)
    search = LocalSearch(env, seed=0)
    legal = tuple(tuple(np.flatnonzero(mask).tolist()) for mask in (env.legal([]), env.legal([1])))
    search.end_batch([Played((1, 5), legal, 0.0)])  # replacing 1 by 5 makes the second edit illegal
    quiet(search).learn(12 * 10)
    assert any(taken[0] == 5 for taken, _ in env.played)
    assert all(len(set(edits(taken))) == len(edits(taken)) for taken, _ in env.played)  # the toy refuses it, too


def test_predict_follows_the_best() -> None:
    env = Toy(n_envs=2)
    search = LocalSearch(env, seed=0)
    search.best = episode(1, 5, 0)
    observation, state = env.reset(), None
    for step, expected in enumerate([1, 5, STOP]):
        actions, state = search.predict(observation, state, np.full(2, step == 0))
        assert actions.tolist() == [expected, expected]
        observation = env.step(actions)[0]
    actions, _ = search.predict(observation, state, np.array([True, False]))
    assert actions.tolist() == [1, STOP]
    single, _ = search.predict({name: values[0] for name, values in env.reset().items()})
    assert single == 1


def test_unknown_move() -> None:
    with pytest.raises(ConfigError, match=r"unknown move of local_search: 'frist'\. Did you mean 'first'"):
        LocalSearch(Toy(), seed=0, move="frist")
