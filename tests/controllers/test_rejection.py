"""Rejected episodes: the correction against exact gradients, and REINFORCE on an environment that rejects."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rlnas.controllers import Reinforce, make_controller
from rlnas.controllers.buffer import ChoiceBuffer
from rlnas.controllers.rejection import Correction, log_feasible, rejected, rejects
from rlnas.envs import EpisodeVecEnv
from rlnas.errors import ConfigError
from tests.controllers.toy import Toy
from tests.envs.fakes import fake_problem

SAMPLES = 20_000


class TwoChoices:
    """Two steps of three actions each, whose sum must be at most 1; imagined and rejecting."""

    max_steps = 2
    rejects = True

    def __init__(self, num_envs: int) -> None:
        self.num_envs = num_envs

    def imagined(self, n_envs: int) -> TwoChoices:
        return TwoChoices(n_envs)

    def get_attr(self, name: str) -> list[Any]:
        return [getattr(self, name)] * self.num_envs

    def observe(self) -> dict[str, np.ndarray[Any, Any]]:
        return {"step": np.full((self.num_envs, 1), self.step_number)}

    def reset(self) -> dict[str, np.ndarray[Any, Any]]:
        self.step_number, self.sums = 0, np.zeros(self.num_envs, dtype=np.int64)
        return self.observe()

    def step(self, actions: np.ndarray[Any, Any]) -> tuple[Any, None, None, list[dict[str, Any]]]:
        self.step_number, self.sums = self.step_number + 1, self.sums + actions
        return self.observe(), None, None, [{"feasible": bool(total <= 1)} for total in self.sums]


class Table(nn.Module):
    """Free logits for each step."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([[0.3, -0.2, 0.5], [0.1, 0.4, -0.6]], dtype=torch.float64))

    def forward(self, obs: dict[str, Tensor]) -> tuple[Tensor, None, None]:
        chances = self.logits.softmax(dim=1)[obs["step"][:, 0]]
        return torch.multinomial(chances, 1)[:, 0], None, None

    def evaluate_actions(self, obs: dict[str, Tensor], actions: Tensor) -> tuple[None, Tensor, None]:
        rows = self.logits.log_softmax(dim=1)[obs["step"][:, 0]]
        return None, rows.gather(1, actions[:, None])[:, 0], None

    def episode(self, actions: tuple[int, int]) -> Tensor:
        """Log-probability of an episode."""
        return self.logits.log_softmax(dim=1)[torch.arange(2), torch.tensor(actions)].sum()


FEASIBLE = [pair for pair in itertools.product(range(3), repeat=2) if sum(pair) <= 1]


def gradient(policy: Table, value: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(value, [policy.logits])
    return found


def test_the_estimate_has_the_exact_value_and_gradient() -> None:
    torch.manual_seed(0)
    policy = Table()
    exact = torch.stack([policy.episode(pair) for pair in FEASIBLE]).logsumexp(dim=0)
    estimate, share = log_feasible(policy, TwoChoices(SAMPLES))  # type: ignore[arg-type]
    assert estimate is not None
    assert share == pytest.approx(float(exact.exp().detach()), abs=0.015)
    assert float(estimate.detach()) == pytest.approx(np.log(share))
    assert torch.allclose(gradient(policy, estimate), gradient(policy, exact), atol=0.02)
    assert gradient(policy, torch.stack([policy.episode(p) for p in FEASIBLE]).logsumexp(dim=0)).abs().max() > 0.2


def test_equal_rewards_pull_nowhere_once_corrected() -> None:
    torch.manual_seed(1)
    policy = Table()
    with torch.no_grad():
        weights = torch.stack([policy.episode(pair) for pair in FEASIBLE]).softmax(dim=0)
    log_probs = torch.stack([policy.episode(pair) for pair in FEASIBLE])
    advantages = torch.full((5,), 2.0, dtype=torch.float64)
    loss = -(weights * 2.0 * log_probs).sum()  # the mean over feasible episodes, exactly
    term, share = Correction(TwoChoices(3), samples=SAMPLES).loss(policy, advantages)  # type: ignore[arg-type]
    assert 0.3 < share < 0.7
    plain = gradient(policy, -(weights * 2.0 * torch.stack([policy.episode(p) for p in FEASIBLE])).sum())
    assert plain.abs().max() > 0.4
    assert gradient(policy, loss + term).abs().max() < 0.04


def test_no_sample_keeps_the_limits() -> None:
    policy = Table()
    with torch.no_grad():
        policy.logits[:] = torch.tensor([-1e3, -1e3, 0.0])
    assert log_feasible(policy, TwoChoices(10)) == (None, 0.0)  # type: ignore[arg-type]
    assert Correction(TwoChoices(2), samples=10).loss(policy, torch.ones(2)) == (0.0, 0.0)  # type: ignore[arg-type]


def test_environments_that_do_not_reject_are_left_alone() -> None:
    toy = Toy(n_envs=2)
    assert not rejects(toy)
    assert not Correction(toy, samples=3).needed


def test_dropped_episodes_enter_neither_gradient_nor_baseline() -> None:
    problem = fake_problem(max_steps=3, max_params="1.3x", max_macs=None, enforce="reject")
    env = EpisodeVecEnv(problem, n_envs=8)
    assert rejects(env)
    seen: list[tuple[int, list[float]]] = []

    class Watched(Reinforce):
        def train(self) -> None:
            assert isinstance(self.rollout_buffer, ChoiceBuffer)
            seen.append(
                (int(self.rollout_buffer.episode_rewards[0].all(axis=0).sum()), self._episode_returns().tolist())
            )
            super().train()

    controller = Watched(env, seed=0, rejection_samples=8)
    counted: list[int] = []
    own = env.step_wait

    def step_wait() -> Any:
        found = own()
        if found[2][0]:
            counted.append(8 - len(rejected(found[3])))
        return found

    env.step_wait = step_wait  # type: ignore[method-assign]
    before = [p.detach().clone() for p in controller.policy.parameters()]
    controller.learn(4 * 8 * 3)
    assert [count for count, _ in seen] == counted == [len(returns) for _, returns in seen]
    assert 0 < sum(counted) < 32
    assert all(value > 0.0 for _, returns in seen for value in returns)  # those rejected got 0
    assert any(not torch.equal(a, b) for a, b in zip(before, controller.policy.parameters(), strict=True))


def test_a_rollout_of_rejected_episodes_changes_nothing() -> None:
    problem = fake_problem(
        max_steps=1, max_macs=None, max_params="99%", enforce="reject", variants=["widen 2", "prune_channels 0.5"]
    )
    env = EpisodeVecEnv(problem, n_envs=2)
    controller = Reinforce(env, seed=0, rejection_samples=4)
    own = controller.rollout_buffer.drop  # type: ignore[attr-defined]
    controller.rollout_buffer.drop = lambda episodes: own([0, 1])  # type: ignore[attr-defined]
    before = [p.detach().clone() for p in controller.policy.parameters()]
    controller.learn(2)
    assert all(torch.equal(a, b) for a, b in zip(before, controller.policy.parameters(), strict=True))
    assert controller.baseline == 1.0


@pytest.mark.parametrize("name", ["ppo", "recurrent_ppo", "imagination"])
def test_controllers_that_do_not_correct_refuse(name: str) -> None:
    env = EpisodeVecEnv(fake_problem(max_steps=2, enforce="reject"), n_envs=2)
    with pytest.raises(ConfigError, match=r"space.enforce=reject.*reinforce"):
        make_controller(name, env, seed=0, arguments={})
    make_controller("reinforce", env, seed=0, arguments={})


def test_rejection_does_not_go_without_replacement() -> None:
    env = EpisodeVecEnv(fake_problem(max_steps=2, enforce="reject"), n_envs=2)
    with pytest.raises(ConfigError, match=r"without_replacement does not go with .*space.enforce=mask"):
        make_controller("reinforce", env, seed=0, arguments={"without_replacement": True})
