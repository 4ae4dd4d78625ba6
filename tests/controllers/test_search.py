from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from stable_baselines3.common.callbacks import BaseCallback

from rlnas.controllers import TPE, Evolution, Largest, LocalSearch, RandomSearch, Uniform
from rlnas.errors import ConfigError
from rlnas.layout import STOP
from tests.controllers.toy import Toy, quiet

SEARCHES = [RandomSearch, LocalSearch, Evolution, TPE, Largest, Uniform]


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


def test_random_predict_is_legal() -> None:
    env = Toy(n_envs=5)
    search = RandomSearch(env, seed=0)
    observation, state = env.reset(), None
    for _ in range(30):
        actions, state = search.predict(observation, state)
        observation = env.step(actions)[0]  # the toy asserts that they are legal


class Decisions(Toy):
    """The toy with one decision after another: only the slot of the step is legal, and no episode stops early."""

    def legal(self, taken: list[int]) -> np.ndarray:
        mask = np.zeros(self.layout.n_actions, dtype=np.int8)
        if len(taken) == self.max_steps:
            mask[STOP] = 1
        else:
            mask[[self.layout.action(len(taken), v) for v in range(self.layout.variants)]] = 1
        return mask


@pytest.mark.parametrize("kind", SEARCHES)
def test_plays_one_decision_after_another(kind: Any) -> None:
    env = Decisions(slots=5, nodes=5, variants=3, max_steps=5)
    quiet(kind(env, seed=0)).learn(5 * 100)
    for taken, _ in env.played:
        assert [env.layout.slot_and_variant(action)[0] for action in taken] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("kind", [LocalSearch, Evolution])
@pytest.mark.parametrize("environment", [Toy, Decisions])
def test_is_better_than_random(kind: Any, environment: Any) -> None:
    """Best of 100 episodes in a space of 15,625 sequences and more, whose optimum is 2.8."""

    def best(kind: Any, seed: int) -> float:
        env = environment(slots=6, nodes=6, variants=5, max_steps=6)
        quiet(kind(env, seed=seed)).learn(6 * 100)
        return max(reward for _, reward in env.played)

    gains = [best(kind, seed) - best(RandomSearch, seed) for seed in range(8)]
    assert np.mean(gains) > 0.3 and sum(gain > 0 for gain in gains) >= 5, gains
