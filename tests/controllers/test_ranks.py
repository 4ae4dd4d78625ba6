from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlnas.controllers import PPO, RecurrentPPO
from rlnas.controllers.ppo import _ranks
from tests.controllers.toy import Toy, quiet


class Scaled(Toy):
    """Rewards in another unit, and far below for some."""

    def worth(self, taken: list[int]) -> float:
        value = super().worth(taken)
        return 1e4 * value if value > 0.95 else -1e9


def last(env: Toy, controller: PPO, episodes: int = 300) -> float:
    quiet(controller).learn(3 * episodes)
    return float(np.mean([Toy.worth(env, taken) for taken, _ in env.played[-30:]]))


def test_ranks_by_hand() -> None:
    assert _ranks([1.0, 3.0, 3.0, 7.0], [1.0, 3.0, 3.0, 7.0]) == [-0.75, 0.0, 0.0, 0.75]
    assert _ranks([2.0, 9.0, -1.0], [1.0, 2.0, 2.0, 5.0]) == [0.0, 1.0, -1.0]
    assert _ranks([2.0], []) == [0.0]


@pytest.mark.parametrize("kind", [PPO, RecurrentPPO])
def test_what_the_optimizer_sees_are_ranks_among_earlier_returns(kind: type[PPO]) -> None:
    env = Toy(n_envs=4)
    controller = quiet(kind(env, seed=0, rank=True, history=6))
    assert isinstance(controller, PPO)
    controller.learn(24)
    before, now = ([reward for _, reward in env.played[i : i + 4]] for i in (0, 4))
    past = np.array(before)
    expected = [np.sign(reward - past).mean() for reward in now]
    assert controller.rollout_buffer.rewards[2] == pytest.approx(expected)
    assert not controller.rollout_buffer.rewards[:2].any()
    assert list(controller.history) == pytest.approx([*before[-2:], *now])


def test_the_unit_of_rewards_does_not_matter_to_ranks() -> None:
    env = Scaled()
    assert last(env, PPO(env, seed=0, rank=True)) > 1.6


def test_a_checkpoint_holds_the_history(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"rank": True, "history": 25}
    whole, first, second = (Toy(noise=0.1) for _ in range(3))
    quiet(PPO(whole, seed=3, **arguments)).learn(180)
    controller = quiet(PPO(first, seed=3, **arguments))
    controller.learn(90)
    controller.save(tmp_path)
    quiet(PPO.load(tmp_path, second)).learn(90, reset_num_timesteps=False)
    assert first.played + second.played == whole.played
