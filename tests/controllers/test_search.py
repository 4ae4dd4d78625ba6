from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from stable_baselines3.common.callbacks import BaseCallback

from rlnas.controllers import LocalSearch, RandomSearch
from rlnas.errors import ConfigError
from rlnas.layout import STOP
from tests.controllers.toy import GOOD, Toy, quiet

SEARCHES = [RandomSearch, LocalSearch]


class Record(BaseCallback):
    """Notes the order of events, and stops after so many steps."""

    def __init__(self, stop_after: int = 10**9) -> None:
        super().__init__()
        self.events: list[str] = []
        self.stop_after = stop_after
        self.rewards: list[float] = []

    def _on_training_start(self) -> None:
        self.events.append("training start")

    def _on_rollout_start(self) -> None:
        self.events.append("rollout start")

    def _on_step(self) -> bool:
        assert {"infos", "dones", "rewards"} <= set(self.locals)
        self.events.append("step")
        self.rewards += self.locals["rewards"].tolist()
        return self.n_calls < self.stop_after

    def _on_rollout_end(self) -> None:
        self.events.append("rollout end")

    def _on_training_end(self) -> None:
        self.events.append("training end")


@pytest.mark.parametrize("kind", SEARCHES)
def test_driven_like_an_algorithm_of_stable_baselines(kind: Any) -> None:
    env = Toy(n_envs=4)
    record = Record()
    search = quiet(kind(env, seed=3))
    assert search.learn(13, callback=record) is search  # 12 steps a batch, so two batches
    batch = ["rollout start", "step", "step", "step", "rollout end"]
    assert record.events == ["training start", *batch, *batch, "training end"]
    assert search.num_timesteps == 24
    assert record.num_timesteps == 24
    assert search.get_env() is env
    assert env.seeds == [3]
    assert record.rewards[-4:] == pytest.approx([reward for _, reward in env.played[-4:]])
    search.learn(12, callback=record, reset_num_timesteps=False)
    assert search.num_timesteps == 36
    search.learn(12)
    assert search.num_timesteps == 12


@pytest.mark.parametrize("kind", SEARCHES)
def test_a_callback_can_stop_it_and_the_next_batch_is_whole(kind: Any) -> None:
    env = Toy(n_envs=4)
    record = Record(stop_after=4)
    search = quiet(kind(env, seed=0)).learn(100, callback=record)
    assert record.events[-3:] == ["rollout start", "step", "training end"]
    assert search.num_timesteps == 16
    search.learn(12, reset_num_timesteps=False)
    assert len(env.played) == 8


@pytest.mark.parametrize("kind", SEARCHES)
def test_same_seed_same_episodes(kind: Any) -> None:
    def episodes(seed: int) -> list[tuple[list[int], float]]:
        env = Toy()
        quiet(kind(env, seed=seed)).learn(150)
        return env.played

    assert episodes(0) == episodes(0)
    assert episodes(0) != episodes(1)


@pytest.mark.parametrize("kind", SEARCHES)
def test_does_not_touch_global_generators(kind: Any) -> None:
    before = np.random.get_state()[1].tolist()  # type: ignore[union-attr, index]
    quiet(kind(Toy(), seed=0)).learn(60)
    assert np.random.get_state()[1].tolist() == before  # type: ignore[union-attr, index]


@pytest.mark.parametrize("kind", SEARCHES)
def test_episodes_that_do_not_end_together_are_refused(kind: Any) -> None:
    with pytest.raises(ConfigError, match="do not all end together"):
        quiet(kind(Toy(max_steps=3, steps=2), seed=0)).learn(60)


def test_random_is_uniform_over_legal_actions() -> None:
    env = Toy(n_envs=1, max_steps=1)
    quiet(RandomSearch(env, seed=0)).learn(6500)
    actions = np.array([taken[0] for taken, _ in env.played])
    shares = np.bincount(actions, minlength=env.layout.n_actions) / len(actions)
    assert (shares[13:] == 0).all()  # empty slots
    assert shares[:13] == pytest.approx(1 / 13, abs=0.015)


def trimmed(taken: list[int]) -> list[int]:
    return [action for action in taken if action != STOP]


def test_local_search_begins_with_stop_and_changes_one_thing_at_a_time() -> None:
    env = Toy(n_envs=8, max_steps=4)
    search = LocalSearch(env, seed=1)
    quiet(search).learn(32)
    first = [trimmed(taken) for taken, _ in env.played]
    assert first[0] == []
    assert all(len(taken) == 1 for taken in first[1:])
    assert search.best_return == max(reward for _, reward in env.played)
    for _ in range(15):
        incumbent, best = list(search.incumbent), search.best_return
        begun = len(env.played)
        search.learn(32)
        batch = env.played[begun:]
        for taken, _ in batch:
            assert one_change_apart(incumbent, trimmed(taken)), (incumbent, taken)
        assert best is not None
        top = max(reward for _, reward in batch)
        assert search.best_return == pytest.approx(max(best, top))
        if top <= best:
            assert search.incumbent == incumbent


def one_change_apart(a: list[int], b: list[int]) -> bool:
    """True if b comes from a by appending, deleting or replacing one action.

    Of the other actions only one can become illegal here, if the new one repeats it; it is then replaced too.
    """
    if len(b) == len(a) + 1:
        return sum(x != y for x, y in zip(a, b, strict=False)) == 0
    if len(b) == len(a) - 1:
        return any(b == a[:i] + a[i + 1 :] for i in range(len(a)))
    return len(a) == len(b) and sum(x != y for x, y in zip(a, b, strict=True)) <= 2


def test_an_incumbent_action_that_became_illegal_gives_way() -> None:
    env = Toy(n_envs=6, max_steps=2)
    search = LocalSearch(env, seed=0)
    search.incumbent, search.best_return = [1, 1], 0.0  # the second is illegal after the first
    quiet(search).learn(12)
    assert {taken[0] for taken, _ in env.played} != {1}
    assert all(len(set(trimmed(taken))) == len(trimmed(taken)) for taken, _ in env.played)


def test_local_search_climbs_to_the_optimum() -> None:
    """The optimum is 1.9; random search has a mean of 0.9."""
    env = Toy(n_envs=10)
    search = LocalSearch(env, seed=0)
    quiet(search).learn(3 * 200)
    assert search.best_return == pytest.approx(1 + 3 * GOOD)
    mean = np.mean([reward for _, reward in env.played[-50:]])
    chance = Toy(n_envs=10)
    quiet(RandomSearch(chance, seed=0)).learn(3 * 200)
    assert np.mean([reward for _, reward in chance.played]) < 1.0 < 1.4 < mean


def test_predict_follows_the_incumbent() -> None:
    env = Toy(n_envs=2)
    search = LocalSearch(env, seed=0)
    search.incumbent = [1, 5]
    observation, state = env.reset(), None
    for step, expected in enumerate([1, 5, STOP]):
        actions, state = search.predict(observation, state, np.full(2, step == 0))
        assert actions.tolist() == [expected, expected]
        observation = env.step(actions)[0]
    actions, _ = search.predict(observation, state, np.array([True, False]))
    assert actions.tolist() == [1, STOP]
    single, _ = search.predict({name: values[0] for name, values in env.reset().items()})
    assert single == 1


def test_random_predict_is_legal() -> None:
    env = Toy(n_envs=5)
    search = RandomSearch(env, seed=0)
    observation, state = env.reset(), None
    for _ in range(30):
        actions, state = search.predict(observation, state)
        observation = env.step(actions)[0]  # the toy asserts that they are legal
