"""Edit networks with an operator of one's own, and judge them by an evaluator of one's own.

    python docs/examples/own_code.py --workers 2

Both are given by their import paths, ``package.module:name``. Here they are the files beside this script, which Python
finds because a script's folder is the first place where it looks. From the command line, ``run.code`` names the folder:

    rlnas train --config configs/digits_ppo.yaml --run.code=docs/examples --evaluation.name=own_evaluator:NoisyAccuracy
"""

from __future__ import annotations

import argparse

import gymnasium
import torch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=0, help="processes that train")
    parser.add_argument("--noise", type=float, default=0.3, help="deviation of the noise on the inputs")
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    env = gymnasium.make(
        "rlnas:rlnas/Morph-v0",
        max_steps=2,
        variants=["own_operator:SwapActivation 1", "own_operator:SwapActivation 2"],
        evaluator="own_evaluator:NoisyAccuracy",
        evaluator_options={"noise": arguments.noise},
        workers=arguments.workers,
    )
    observation, _ = env.reset(seed=0)
    terminated, reward, info = False, 0.0, {}
    while not terminated:
        action = int(observation["action_mask"].nonzero()[0][1])  # the first legal edit
        observation, reward, terminated, _, info = env.step(action)
    evaluation = info["evaluation"]
    print(f"edits: {', '.join(evaluation['operators'])}")
    print(f"accuracy under noise: {evaluation['accuracy']:.3f}, reward {reward:.3f}")
    env.close()


if __name__ == "__main__":
    main()
