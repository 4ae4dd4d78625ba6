"""Weigh accuracy against cost by mo-gymnasium's LinearReward, and keep the front that all weights find together.

    pip install 'rlnas[mo]'
    python docs/examples/linear_reward.py --episodes 200

``VectorReward`` gives one reward for each objective, as mo-gymnasium's environments do, so that its wrappers, and
learners for several objectives, go with rlnas's environments. ``ParetoArchive`` keeps what no other network beats.
"""

from __future__ import annotations

import argparse

import gymnasium
import numpy
from mo_gymnasium.wrappers import LinearReward

from rlnas.envs import ParetoArchive, VectorReward
from rlnas.spaces import DecisionSpace


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=200, help="episodes of random search for each weight")
    arguments = parser.parse_args()

    plan = DecisionSpace.of({"depth": (2, 4, 8), "width": (16, 32, 64), "kernel": (3, 5, 7)})
    depth, width, kernel = numpy.meshgrid(*(decision.choices for decision in plan.decisions), indexing="ij")
    macs = depth * width**2 * kernel**2
    accuracy = 1 - macs**-0.2  # stands for what was measured
    archive = ParetoArchive(gymnasium.make("rlnas:rlnas/Build-v0", space=plan, scores=accuracy, columns={"macs": macs}))
    vector = VectorReward(archive)
    print(f"objectives: {', '.join(vector.objectives)}, reward space {vector.reward_space}")

    for share in (0.0, 0.5, 1.0):
        # costs are counted in units of the dearest network's, so that both entries have the same scale
        env = LinearReward(vector, weight=numpy.array([1 - share, share / macs.max()]))
        env.action_space.seed(0)
        best, chosen = -numpy.inf, {}
        for _ in range(arguments.episodes):
            observation, _ = env.reset(seed=0)
            terminated, reward, info = False, 0.0, {}
            while not terminated:
                action = env.action_space.sample(observation["action_mask"])
                observation, reward, terminated, _, info = env.step(action)
            if reward > best:
                best, chosen = reward, info["evaluation"]["choices"]
        print(f"{share:.0%} cost: {chosen}")
    print(f"front of {len(archive.archive.records)} networks, hypervolume {archive.archive.hypervolume:.3f}")


if __name__ == "__main__":
    main()
