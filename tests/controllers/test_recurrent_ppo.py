from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback

from rlnas.controllers import MemoryPolicy, make_controller
from rlnas.controllers.buffer import EpisodeBuffer
from rlnas.controllers.policies.memory_policy import CHOICE
from tests.controllers.memory_task import CUE, MemoryTask
from tests.controllers.toy import Toy, quiet


def share_right(name: str, seed: int, *, episodes: int = 2800) -> float:
    """Share of the last 400 episodes that were right; by chance it is a half."""
    env = MemoryTask(n_envs=40, seed=seed)
    quiet(make_controller(name, env, seed=seed, arguments={})).learn(env.max_steps * episodes)
    return float(np.mean([reward for _, reward in env.played[-400:]]))


def test_remembers_what_was_shown_first() -> None:
    """By chance an episode is right in half of the cases; the environment raises if a masked action is taken."""
    shares = [share_right("recurrent_ppo", seed) for seed in range(2)]
    assert min(shares) > 0.9, shares


@pytest.mark.slow
def test_what_it_remembers_is_not_lost_again() -> None:
    """Whatever the seed: larger updates learn the task as fast, and most of them unlearn it later."""
    shares = [share_right("recurrent_ppo", seed, episodes=4000) for seed in range(100, 116)]
    assert min(shares) > 0.9, shares


def test_masked_ppo_alone_cannot() -> None:
    """Right in half of the episodes, whatever it learns: three standard deviations of 400 tosses are 0.075."""
    assert share_right("ppo", 0) < 0.575


@pytest.mark.slow
def test_masked_ppo_alone_cannot_with_any_seed() -> None:
    shares = [share_right("ppo", seed) for seed in range(1, 9)]
    assert max(shares) < 0.6, shares  # four standard deviations: there are eight of them


class Recomputed(BaseCallback):
    """Before the first update: the collected log-probabilities and values, and those computed again from the buffer."""

    def __init__(self, batch_size: int | None = None) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.samples: list[Any] = []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        buffer, policy = self.model.rollout_buffer, self.model.policy  # type: ignore[attr-defined]
        if self.samples:
            return
        for batch in buffer.get(self.batch_size):
            with torch.no_grad():
                values, log_prob, entropy = policy.evaluate_actions(batch.observations, batch.actions.long().flatten())
            self.samples.append((batch, values, log_prob, entropy))


@pytest.mark.parametrize("batch_size", [None, 8])
def test_log_probabilities_computed_again_are_those_collected(batch_size: int | None) -> None:
    env, seen = MemoryTask(n_envs=5), Recomputed(batch_size)
    settings = {"n_steps": 8, "policy_kwargs": {"init_range": 0.9}}  # the memory has something to say
    controller = quiet(make_controller("recurrent_ppo", env, seed=0, arguments=settings))
    controller.learn(40, callback=seen)
    assert len(seen.samples) == (1 if batch_size is None else 5)
    for batch, values, log_prob, entropy in seen.samples:
        torch.testing.assert_close(log_prob, batch.old_log_prob, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(values.flatten(), batch.old_values, rtol=1e-5, atol=1e-5)
        masks = batch.observations["action_mask"].bool()[batch.observations[CHOICE].flatten()]
        assert masks.gather(1, batch.actions.long()).all() and (masks.sum(dim=1) > 1).all()
        assert (entropy > 0).all()
    steps = sum(len(batch.actions) for batch, *_ in seen.samples)
    forced = sum(int((~batch.observations[CHOICE].bool()).sum()) for batch, *_ in seen.samples)
    assert steps + forced == 40 and forced > 0


def test_without_its_memory_the_log_probabilities_differ() -> None:
    """So the test above can fail."""
    env, seen = MemoryTask(n_envs=5), Recomputed()
    settings = {"policy_kwargs": {"init_range": 0.9}}
    controller: Any = quiet(make_controller("recurrent_ppo", env, seed=0, arguments=settings))
    controller.policy.forget = lambda *_: None  # episodes begin with what the policy remembers of others
    controller.policy._playing = (torch.ones(5, 32), torch.ones(5, 32))
    controller.learn(20, callback=seen)
    ((batch, _, log_prob, _),) = seen.samples
    assert not torch.allclose(log_prob, batch.old_log_prob, atol=1e-3)


def test_the_memory_begins_anew_with_each_episode() -> None:
    """Two episodes in one rollout: the second begins as the first did, and only where an episode ended."""
    env = Toy(n_envs=3)
    controller: Any = quiet(make_controller("recurrent_ppo", env, seed=0, arguments={}))
    policy: MemoryPolicy = controller.policy
    observation = {name: torch.as_tensor(entry) for name, entry in env.reset().items()}
    with torch.no_grad():
        policy.forward(observation)
        begun = policy._playing
        policy.forward(observation)
        assert begun is not None and policy._playing is not None
        assert not torch.equal(policy._playing[0], begun[0])
        policy.forget(np.array([True, False, True]))
        policy.forward(observation)
        for now, then in zip(policy._playing, begun, strict=True):
            torch.testing.assert_close(now[[0, 2]], then[[0, 2]])
            assert not torch.allclose(now[1], then[1])
        policy.forget()
        assert policy._playing is None


def test_gradient_reaches_the_first_step() -> None:
    """What the first observation shows changes the probability of the last action, and its gradient."""
    env = MemoryTask(n_envs=2, forced=False)
    controller: Any = quiet(make_controller("recurrent_ppo", env, seed=0, arguments={}))
    torch.manual_seed(0)
    steps = env.max_steps
    observation = {n: torch.as_tensor(np.repeat(e[:1], steps, axis=0)).float() for n, e in env.reset().items()}
    observation["action_mask"][:] = 1.0
    context = observation["context"].requires_grad_()
    observation[CHOICE] = (torch.arange(steps) == steps - 1)[None]
    _, log_prob, _ = controller.policy.evaluate_actions(observation, torch.tensor([1]))
    log_prob.sum().backward()
    assert context.grad is not None and context.grad[0, CUE] != 0


def test_minibatches_are_whole_episodes() -> None:
    env = MemoryTask(n_envs=6, forced=False)
    buffer = EpisodeBuffer(
        8, env.observation_space, env.action_space, device="cpu", n_envs=6, max_steps=4, gamma=1.0, gae_lambda=1.0
    )
    observation, starts = env.reset(), np.ones(6)
    for step in range(8):
        observation["nodes"][:] = 100 * np.arange(6)[:, None] + step  # which episode, and which step of it
        buffer.add(observation, np.zeros((6, 1)), np.full(6, 7.0 * step), starts, torch.zeros(6), torch.zeros(6))  # type: ignore[arg-type]
        env.step_async(np.zeros(6, dtype=int))
        observation, _, dones, _ = env.step_wait()
        starts = dones
    buffer.compute_returns_and_advantage(torch.zeros(6), np.ones(6, dtype=bool))
    seen = []
    for batch in buffer.get(8):
        marks = batch.observations["nodes"][:, 0].reshape(-1, 4)
        assert len(marks) == 2 and batch.observations[CHOICE].all()
        for episode, returns in zip(marks.int().tolist(), batch.returns.reshape(-1, 4).tolist(), strict=True):
            first = episode[0] % 100
            assert first in (0, 4) and episode == [episode[0] + i for i in range(4)]
            rewards = [7.0 * (first + i) for i in range(4)]
            assert returns == pytest.approx([sum(rewards[i:]) for i in range(4)])
            seen.append(episode[0])
    assert sorted(seen) == sorted(100 * env + first for env in range(6) for first in (0, 4))


def test_predict_passes_its_memory_on() -> None:
    """Step by step with the state passed on, ``predict`` does what the policy did when it played the episode."""
    env = MemoryTask(n_envs=8, forced=False)
    settings = {"policy_kwargs": {"init_range": 0.9}}
    controller: Any = quiet(make_controller("recurrent_ppo", env, seed=0, arguments=settings))
    policy: MemoryPolicy = controller.policy
    with torch.no_grad():
        policy.variant_head[0].weight[:, -32:] *= 20  # what the head sees of the memory decides
    state, forgetful, alone = None, [], []
    policy.forget()
    observation = env.reset()
    for step in range(env.max_steps):
        with torch.no_grad():
            wanted = policy.forward({n: torch.as_tensor(e) for n, e in observation.items()}, deterministic=True)[0]
        starts = np.full(8, step == 0)
        actions, state = controller.predict(observation, state, starts, deterministic=True)
        assert actions.tolist() == wanted.tolist()
        assert state is not None and [part.shape for part in state] == [(8, 32), (8, 32)]
        alone.append(wanted.numpy())
        forgetful.append(controller.predict(observation, state, np.ones(8, dtype=bool), deterministic=True)[0])
        one, _ = controller.predict({n: e[0] for n, e in observation.items()}, deterministic=True)
        assert one == forgetful[-1][0]
        env.step_async(actions)
        observation = env.step_wait()[0]
    assert not np.array_equal(alone, forgetful)  # the memory makes a difference
