from __future__ import annotations

import numpy as np
import pytest
import torch

from rlnas.controllers.buffer import ChoiceBuffer
from tests.controllers.toy import Toy


def fill(env: Toy, stops: list[int], *, gae_lambda: float, values: float) -> ChoiceBuffer:
    """One rollout in which episode i takes action 1 + t until it stops at step ``stops[i]``."""
    buffer = ChoiceBuffer(
        env.max_steps,
        env.observation_space,  # type: ignore[arg-type]
        env.action_space,
        device="cpu",
        gamma=1.0,
        gae_lambda=gae_lambda,
        n_envs=env.num_envs,
    )
    observation, starts = env.reset(), np.ones(env.num_envs)
    dones = np.zeros(env.num_envs, dtype=bool)
    for step in range(env.max_steps):
        actions = np.array([0 if step >= stop else 1 + step for stop in stops])
        new, rewards, dones, _ = env.step(actions)
        value = torch.full((env.num_envs, 1), values)
        buffer.add(observation, actions.reshape(-1, 1), rewards, starts, value, torch.zeros(env.num_envs))  # type: ignore[arg-type]
        observation, starts = new, dones
    buffer.compute_returns_and_advantage(last_values=torch.full((env.num_envs, 1), 99.0), dones=dones)
    return buffer


def test_gives_out_the_steps_with_a_choice_only() -> None:
    env = Toy(n_envs=3, max_steps=4)
    buffer = fill(env, [0, 2, 4], gae_lambda=1.0, values=0.5)
    (batch,) = buffer.get()
    assert len(batch.actions) == 1 + 3 + 4  # the step that stops is a choice, what follows is none
    assert (batch.observations["action_mask"].sum(-1) > 1).all()
    returns = sorted(reward for _, reward in env.played)
    assert sorted(set(np.round(batch.returns.tolist(), 5))) == pytest.approx(sorted(set(np.round(returns, 5))))
    torch.testing.assert_close(batch.advantages, batch.returns - 0.5)


def test_minibatches_cover_every_choice_once() -> None:
    buffer = fill(Toy(n_envs=3, max_steps=4), [0, 2, 4], gae_lambda=1.0, values=0.5)
    sizes = [len(batch.actions) for batch in buffer.get(3)]
    assert sizes == [3, 3, 2]
    again = torch.cat([batch.observations["nodes"] for batch in buffer.get(3)])
    whole = next(buffer.get()).observations["nodes"]
    assert sorted(map(tuple, again.tolist())) == sorted(map(tuple, whole.tolist()))


@pytest.mark.parametrize("gae_lambda", [0.0, 0.7, 1.0])
def test_what_follows_stop_is_known(gae_lambda: float) -> None:
    """The choice to stop leads to a known return, whatever the critic says of the steps after it."""
    env = Toy(n_envs=1, max_steps=4)
    (batch,) = fill(env, [0], gae_lambda=gae_lambda, values=0.25).get()
    assert batch.advantages.tolist() == pytest.approx([1.0 - 0.25])
    assert batch.returns.tolist() == pytest.approx([1.0])


def test_bootstrapped_advantage_by_hand() -> None:
    """lambda = 0: r + V(next) - V; only the choice to stop, whose outcome is known, sees the reward."""
    env = Toy(n_envs=1, max_steps=3)
    buffer = fill(env, [2], gae_lambda=0.0, values=0.25)
    advantages = buffer.advantages[:, 0]
    reward = env.played[0][1]
    assert advantages.tolist() == pytest.approx([0.0, 0.0, reward - 0.25])


def test_a_rollout_without_any_choice_is_refused() -> None:
    env = Toy(n_envs=2, nodes=0)
    with pytest.raises(AssertionError, match="more than one legal"):
        next(fill(env, [0, 0], gae_lambda=1.0, values=0.0).get())
