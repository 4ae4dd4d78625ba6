"""Train Stable-Baselines3's own PPO on rlnas/Morph-v0.

    python docs/examples/sb3_ppo.py --timesteps 2000

SB3's PPO knows nothing of action masks, so it takes illegal actions; they change nothing and use up a step. The
controllers of ``rlnas.controllers`` mask them instead.
"""

from __future__ import annotations

import argparse

import gymnasium
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.monitor import Monitor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--timesteps", type=int, default=2000, help="steps to train for")
    parser.add_argument("--n-steps", type=int, default=64, help="steps in one rollout")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    env = Monitor(gymnasium.make("rlnas:rlnas/Morph-v0", max_steps=4, max_macs="3x"))
    model = PPO("MultiInputPolicy", env, n_steps=arguments.n_steps, batch_size=32, gamma=1.0, seed=arguments.seed)
    model.learn(total_timesteps=arguments.timesteps)

    observation, _ = env.reset()
    terminated, reward, info = False, 0.0, {}
    while not terminated:
        action, _ = model.predict(observation, deterministic=True)
        observation, reward, terminated, _, info = env.step(action)
    evaluation = info["evaluation"]
    print(f"episodes: {len(env.get_episode_rewards())}")
    print(f"the trained policy's network: reward {reward:.3f}, accuracy {evaluation['accuracy']}")
    print("operators:", ", ".join(evaluation["operators"]) or "none")
    env.close()


if __name__ == "__main__":
    main()
