"""Several episodes at once by Gymnasium's own vector environments, and by rlnas's.

    python docs/examples/vector_envs.py --mode async --context spawn

``sync`` steps one environment after the other, ``async`` each in a process of its own; either way every environment has
a start network and results of its own. ``lockstep`` shares them, and evaluates the networks together.
"""

from __future__ import annotations

import argparse
import time

import gymnasium
import numpy
import torch

MODES = {"sync": "sync", "async": "async", "lockstep": "vector_entry_point"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=MODES, default="sync")
    parser.add_argument("--context", choices=("fork", "spawn"), help="how async makes its processes")
    parser.add_argument("--num-envs", type=int, default=2)
    parser.add_argument("--steps", type=int, default=8)
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    envs = gymnasium.make_vec(
        "rlnas:rlnas/Morph-v0",
        num_envs=arguments.num_envs,
        vectorization_mode=MODES[arguments.mode],
        vector_kwargs={"context": arguments.context} if arguments.context else None,
        max_steps=3,
        epochs=0.5,
        start_epochs=1,
    )
    generator = numpy.random.default_rng(0)
    observations, _ = envs.reset(seed=0)
    begun, rewards_seen = time.perf_counter(), []
    for _ in range(arguments.steps):
        actions = numpy.array([generator.choice(mask.nonzero()[0]) for mask in observations["action_mask"]])
        observations, rewards, terminated, _, _ = envs.step(actions)  # the step after the last one resets
        rewards_seen += [float(reward) for reward in rewards[terminated]]
    seconds = time.perf_counter() - begun
    envs.close()
    print(f"{type(envs).__name__}: {arguments.steps * arguments.num_envs} steps in {seconds:.1f} s")
    print(f"rewards of {len(rewards_seen)} episodes: {', '.join(f'{reward:.3f}' for reward in rewards_seen)}")


if __name__ == "__main__":  # processes that are spawned import this file again
    main()
