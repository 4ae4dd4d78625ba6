"""Train Stable-Baselines3's DQN on rlnas/Build-v0, and see it learn which actions are legal.

    python docs/examples/sb3_dqn.py --timesteps 3000

SB3's DQN knows nothing of action masks, so it takes illegal actions; they change nothing and use up a step. It goes
on exploring to the end, so that some remain.
"""

from __future__ import annotations

import argparse
from typing import Any

import gymnasium
import numpy
import torch
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import BaseCallback

from rlnas.spaces import DecisionSpace


def make_env() -> gymnasium.Env[Any, Any]:
    """Three decisions, and a table of what each network is worth: accuracy as it might be, less what it costs."""
    plan = DecisionSpace.of({"depth": (2, 4, 8), "width": (16, 32, 64), "kernel": (3, 5, 7)})
    depth, width, kernel = numpy.meshgrid(*(decision.choices for decision in plan.decisions), indexing="ij")
    cost = numpy.log10(depth * width**2 * kernel**2)
    return gymnasium.make("rlnas:rlnas/Build-v0", space=plan, scores=1 - numpy.exp(-cost / 2) - 0.05 * cost)


class IllegalActions(BaseCallback):
    """Notes of every action whether it was illegal."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[bool] = []

    def _on_step(self) -> bool:
        self.noted += [info["illegal_action"] for info in self.locals["infos"]]
        return True

    def __str__(self) -> str:
        fifth = len(self.noted) // 5
        first, last = (100 * numpy.mean(part) for part in (self.noted[:fifth], self.noted[-fifth:]))
        return f"illegal actions: {first:.0f} % of the first fifth, {last:.0f} % of the last"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--timesteps", type=int, default=3000, help="steps to train for")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    env = make_env()
    model = DQN(
        "MultiInputPolicy",
        env,
        learning_rate=1e-3,
        learning_starts=500,
        target_update_interval=200,
        train_freq=2,
        exploration_fraction=0.5,
        gamma=1.0,
        buffer_size=arguments.timesteps,
        seed=arguments.seed,
    )
    illegal = IllegalActions()
    model.learn(total_timesteps=arguments.timesteps, callback=illegal)
    print(illegal)

    observation, _ = env.reset()
    terminated, reward, info = False, 0.0, {}
    while not terminated:
        action, _ = model.predict(observation, deterministic=True)
        observation, reward, terminated, _, info = env.step(action)
    print(f"the trained policy's network: score {reward:.3f}, choices {info['evaluation']['choices']}")
    env.close()


if __name__ == "__main__":
    main()
