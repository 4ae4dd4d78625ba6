"""Train sb3-contrib's MaskablePPO on rlnas/Morph-v0: it asks the environment for its mask, and takes no illegal action.

python docs/examples/sb3_maskable_ppo.py --timesteps 2000
"""

from __future__ import annotations

import argparse

import gymnasium
import torch
from sb3_contrib import MaskablePPO
from stable_baselines3.common.monitor import Monitor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--timesteps", type=int, default=2000, help="steps to train for")
    parser.add_argument("--n-steps", type=int, default=64, help="steps in one rollout")
    parser.add_argument("--epochs", type=float, default=3, help="passes over the data that train each network")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    env = Monitor(gymnasium.make("rlnas:rlnas/Morph-v0", max_steps=4, max_macs="3x", epochs=arguments.epochs))
    model = MaskablePPO(
        "MultiInputPolicy", env, n_steps=arguments.n_steps, batch_size=32, gamma=1.0, seed=arguments.seed
    )
    model.learn(total_timesteps=arguments.timesteps)

    observation, _ = env.reset()
    terminated, reward, info = False, 0.0, {}
    while not terminated:
        masks = env.get_wrapper_attr("action_masks")()
        action, _ = model.predict(observation, deterministic=True, action_masks=masks)
        observation, reward, terminated, _, info = env.step(action)
        assert not info["illegal_action"]
    evaluation = info["evaluation"]
    print(f"episodes: {len(env.get_episode_rewards())}")
    print(f"the trained policy's network: reward {reward:.3f}, accuracy {evaluation['accuracy']}")
    print("operators:", ", ".join(evaluation["operators"]) or "none")
    env.close()


if __name__ == "__main__":
    main()
