from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rlnas.controllers import Reinforce
from rlnas.errors import ConfigError
from rlnas.layout import STOP
from tests.controllers.toy import Toy, quiet


def make(env: Toy, **arguments: Any) -> Reinforce:
    controller = quiet(Reinforce(env, seed=0, **arguments))
    assert isinstance(controller, Reinforce)
    return controller


def test_loss_by_hand() -> None:
    """Two episodes, of two choices (return 1.5) and one choice (return 0.5); baseline 1, deviation 0.5."""
    controller = make(Toy(max_steps=2), ent_coef=0.1, initial_baseline=1.0, initial_deviation=0.5)
    log_prob = torch.log(torch.tensor([0.5, 0.25, 0.2]))
    entropy = torch.tensor([0.6, 0.9, 1.2])
    returns = torch.tensor([1.5, 1.5, 0.5])
    loss = controller._loss(log_prob, entropy, returns, n_episodes=2)
    first = (1.5 - 1.0) / 0.5 * (np.log(0.5) + np.log(0.25))
    second = (0.5 - 1.0) / 0.5 * np.log(0.2)
    assert loss.item() == pytest.approx(-(first + second) / 2 - 0.1 * 0.9)


def test_advantages_are_never_blown_up() -> None:
    controller = make(Toy(), min_deviation=0.05, initial_deviation=1e-9)
    assert controller.deviation == 0.05


def test_advantages_by_hand() -> None:
    returns = torch.tensor([0.5, 1.0, 2.0, 9.0])
    difference = make(Toy(), advantage="difference", initial_baseline=1.5, initial_deviation=0.1)
    assert difference._advantages(returns).tolist() == pytest.approx([-1.0, -0.5, 0.5, 7.5])
    clipped = make(Toy(), initial_baseline=1.5, initial_deviation=0.5, clip_advantage=1.5)
    assert clipped._advantages(returns).tolist() == pytest.approx([-1.5, -1.0, 1.0, 1.5])


def test_rank_by_hand() -> None:
    """Among past returns 1, 1, 2, 3: lower minus higher, over four; before any, among each other."""
    controller = make(Toy(), advantage="rank", history=4)
    returns = torch.tensor([0.5, 1.0, 2.5, 1e6])
    assert controller._advantages(returns).tolist() == [-0.75, -0.25, 0.25, 0.75]
    controller._remember(np.array([7.0, 7.0, 1.0]))
    controller._remember(np.array([1.0, 2.0, 3.0]))  # of the first three only the last is kept
    assert controller._advantages(returns).tolist() == [-1.0, -0.5, 0.5, 1.0]


def test_rank_does_not_mind_scale() -> None:
    def play(scale: float) -> list[list[int]]:
        env = Toy(noise=0.1)
        worth = env.worth
        env.worth = lambda taken: scale * worth(taken)  # type: ignore[method-assign]
        make(env, advantage="rank").learn(150)
        return [taken for taken, _ in env.played]

    assert play(1.0) == play(1000.0)


def test_after_the_first_batch_ranks_never_see_the_present_one() -> None:
    env = Toy()
    controller = make(env, advantage="rank", initial_baseline=1.0)
    used: list[list[float]] = []
    advantages = controller._advantages

    def spy(returns: Tensor) -> Tensor:
        used.append(list(controller.history))
        return advantages(returns)

    controller._advantages = spy  # type: ignore[method-assign]
    controller.learn(30 * 3)
    rewards = [reward for _, reward in env.played]
    assert [len(past) for past in used] == [0, 10, 20]
    assert used[2] == pytest.approx(rewards[:20])


def replayed_loss(controller: Reinforce, policy: Any, env: Toy, *, baseline: float, deviation: float) -> Tensor:
    """The loss of the last batch from scratch: from the list of episodes played, one step at a time."""
    batch = env.played[-env.num_envs :]
    policy_terms, entropies = [], []
    for taken, reward in batch:
        for step, action in enumerate(taken):
            if step and taken[step - 1] == STOP:
                break  # it stopped before: nothing was chosen any more
            observation = {k: torch.as_tensor(v).unsqueeze(0) for k, v in env.describe(taken[:step]).items()}
            _, log_prob, entropy = policy.evaluate_actions(observation, torch.tensor([action]))
            policy_terms.append((reward - baseline) / deviation * log_prob[0])
            entropies.append(entropy[0])
    return -torch.stack(policy_terms).sum() / len(batch) - controller.ent_coef * torch.stack(entropies).mean()


def test_gradient_is_that_of_the_episodes_played() -> None:
    """Each episode has its own advantage, each action its own log-probability, and absorbed steps count nowhere."""
    env = Toy(n_envs=6)
    controller = make(
        env,
        ent_coef=0.1,
        max_grad_norm=1e9,
        initial_baseline=0.8,
        initial_deviation=0.4,
        policy_kwargs={"stop_bias": 2.0},
    )
    policy = copy.deepcopy(controller.policy)
    controller.learn(6 * 3)
    assert any(taken[0] == STOP for taken, _ in env.played)  # or nothing is tested
    assert len({reward for _, reward in env.played}) > 1
    replayed_loss(controller, policy, env, baseline=0.8, deviation=0.4).backward()
    for (name, mine), theirs in zip(controller.policy.named_parameters(), policy.parameters(), strict=True):
        assert mine.grad is not None
        assert theirs.grad is not None
        torch.testing.assert_close(mine.grad, theirs.grad, msg=name, rtol=1e-4, atol=1e-6)
        assert mine.grad.abs().sum() > 0, name


def test_baseline_by_hand() -> None:
    env = Toy()
    controller = make(env, baseline_decay=0.75, initial_baseline=2.0, initial_deviation=0.5)
    controller.learn(30)
    returns = np.array([reward for _, reward in env.played])
    assert controller.baseline == pytest.approx(0.75 * 2.0 + 0.25 * returns.mean())
    assert controller.variance == pytest.approx(0.75 * 0.25 + 0.25 * ((returns - 2.0) ** 2).mean())


def test_the_baseline_never_sees_the_present_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow average of earlier batches, whatever the present one brings (EAS gave the newest batch 95 %)."""
    env = Toy()
    controller = make(env, baseline_decay=0.9, initial_baseline=1.0)
    used: list[float] = []
    loss = controller._loss

    def spy(*arguments: Any, **keywords: Any) -> Tensor:
        used.append(controller.baseline)
        return loss(*arguments, **keywords)

    monkeypatch.setattr(controller, "_loss", spy)
    controller.learn(30 * 4)
    batches = np.array([reward for _, reward in env.played]).reshape(4, 10).mean(axis=1)
    expected = [1.0]
    for mean in batches[:3]:
        expected.append(0.9 * expected[-1] + 0.1 * mean)
    assert used == pytest.approx(expected)


def test_several_episodes_in_one_rollout() -> None:
    env = Toy(n_envs=4)
    controller = make(env, n_steps=9)
    controller.learn(9 * 4)
    assert controller._n_updates == 1
    assert len(env.played) == 12
    returns = np.array([reward for _, reward in env.played])
    assert controller.baseline == pytest.approx(0.8 * 1.0 + 0.2 * returns.mean())


def test_episodes_that_do_not_end_together_are_refused() -> None:
    with pytest.raises(ConfigError, match="do not all end together"):
        make(Toy(max_steps=4, steps=2)).learn(100)
