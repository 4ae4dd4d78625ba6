"""What every controller in the registry must do, beside what test_registry, test_checkpoint and test_callbacks ask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, EventCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from rlnas.controllers import CONTROLLERS, checkpoint, make_controller
from rlnas.controllers.policies import SlotPolicy
from tests.controllers.memory_task import MemoryTask
from tests.controllers.test_recurrent_ppo import Recomputed
from tests.controllers.toy import GOOD, Toy, quiet

NAMES = sorted(CONTROLLERS)
LEARNERS = [name for name in NAMES if issubclass(CONTROLLERS[name], OnPolicyAlgorithm)]


def make(name: str, env: Toy, **arguments: Any) -> Any:
    return quiet(make_controller(name, env, seed=4, arguments=arguments))


def actions(controller: Any, env: Toy) -> list[list[int]]:
    """The most likely actions of a batch of episodes, played with ``predict``."""
    observation, state = env.reset(), None
    found = []
    for step in range(env.max_steps):
        chosen, state = controller.predict(
            observation, state=state, episode_start=np.full(env.num_envs, step == 0), deterministic=True
        )
        assert chosen.shape == (env.num_envs,)
        env.step_async(chosen)
        observation = env.step_wait()[0]  # which asserts that they are legal
        found.append(chosen.tolist())
    return found


@pytest.mark.parametrize("name", NAMES)
def test_loaded_it_is_as_it_was_saved(name: str, tmp_path: Path) -> None:
    controller = make(name, Toy())
    controller.learn(90)
    controller.save(tmp_path)
    loaded: Any = quiet(checkpoint.load(tmp_path, Toy()))
    assert loaded.state() == controller.state()
    assert (loaded.num_timesteps, loaded._n_updates) == (controller.num_timesteps, controller._n_updates)
    if name in LEARNERS:
        mine, theirs = controller.policy.state_dict(), loaded.policy.state_dict()
        assert all(torch.equal(mine[key], theirs[key]) for key in mine)
    assert actions(loaded, Toy()) == actions(controller, Toy())


@pytest.mark.parametrize("name", NAMES)
def test_predict_takes_one_observation_or_a_batch(name: str) -> None:
    env = Toy()
    controller = make(name, env)
    controller.learn(30)
    observation = env.reset()
    for deterministic in (False, True):
        many, state = controller.predict(observation, deterministic=deterministic)
        assert many.shape == (10,) and observation["action_mask"][np.arange(10), many].all()
        one, _ = controller.predict({key: entry[0] for key, entry in observation.items()}, deterministic=deterministic)
        assert np.shape(one) == () and observation["action_mask"][0, int(one)]
        assert state is None or all(len(part) == 10 for part in state)


@pytest.mark.parametrize("name", NAMES)
def test_never_takes_a_masked_action(name: str) -> None:
    """The masks are random in each step, and the environment raises; training and ``predict`` alike."""
    env = MemoryTask(n_envs=8)
    settings = {"policy_kwargs": {"init_range": 3.0}} if name in LEARNERS else {}  # with strong preferences
    controller = make(name, env, **settings)
    controller.learn(8 * env.max_steps * 6)
    assert len(env.played) == 48
    actions(controller, env)


@pytest.mark.parametrize("name", LEARNERS)
def test_log_probability_is_that_of_the_action_taken(name: str) -> None:
    """What was collected and what is computed again, and the logarithm of a probability among the legal actions."""
    env, seen = Toy(), Recomputed()
    controller = make(name, env, policy_kwargs={"init_range": 0.7, "stop_bias": 1.0})
    controller.learn(30, callback=seen)
    ((batch, values, log_prob, entropy),) = seen.samples
    torch.testing.assert_close(log_prob, batch.old_log_prob, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(values.flatten(), batch.old_values, rtol=1e-5, atol=1e-5)
    assert (log_prob < 0).all() and (entropy > 0).all() and log_prob.unique().numel() > 5
    taken = sorted(a for episode, _ in env.played for a in choices(episode))
    assert sorted(int(a) for a in batch.actions) == taken


def choices(episode: list[int]) -> list[int]:
    """Actions of an episode up to its first STOP."""
    return episode[: episode.index(0) + 1] if 0 in episode else episode


@pytest.mark.parametrize("name", LEARNERS)
def test_starts_nearly_uniform(name: str) -> None:
    policy = make(name, Toy()).policy
    assert isinstance(policy, SlotPolicy)
    observation = {key: torch.as_tensor(entry) for key, entry in Toy().reset().items()}
    probabilities = policy.get_distribution(observation).distribution.probs[0]
    legal = probabilities[observation["action_mask"][0] > 0]
    assert legal.max() / legal.min() < 1.2


@pytest.mark.parametrize("name", NAMES)
def test_finds_what_is_good(name: str) -> None:
    """The optimum is 1.9; the start alone is worth 1, and a random episode 0.9."""
    env = Toy()
    make(name, env).learn(3 * (100 if name == "imagination" else 300))
    assert max(reward for _, reward in env.played) > 1 + 2 * GOOD - 1e-6


class Every(EventCallback):
    """Calls another callback every few steps, as evaluation and checkpoint callbacks of Stable-Baselines3 do."""

    def _on_step(self) -> bool:
        return self._on_event() if self.n_calls % 2 == 0 else True


class Count(BaseCallback):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def _on_step(self) -> bool:
        self.seen.append(self.num_timesteps)
        return True


@pytest.mark.parametrize("name", NAMES)
def test_callbacks_of_stable_baselines(name: str) -> None:
    env, inner, outer = Toy(), Count(), Count()
    controller = make(name, env)
    controller.learn(60, callback=CallbackList([Every(inner), outer]))
    assert outer.seen == [10, 20, 30, 40, 50, 60] and inner.seen == [20, 40, 60]
    called: list[int] = []

    def function(locals_: dict[str, Any], globals_: dict[str, Any]) -> bool:
        called.append(int(locals_["dones"].sum()))
        return True

    controller.learn(30, callback=function)
    assert called == [0, 0, 10]


@pytest.mark.parametrize("name", LEARNERS)
def test_one_policy_serves_what_the_context_tells(name: str) -> None:
    """Each episode draws a headroom that is shown, and that says which action is right; by chance half of them are."""
    env = MemoryTask(n_envs=40, max_steps=1)
    make(name, env, learning_rate=0.02).learn(40 * 30)
    assert np.mean([reward for _, reward in env.played[-400:]]) > 0.9
