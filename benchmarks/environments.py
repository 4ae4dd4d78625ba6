"""Steps a second of the environments that look scores up: random legal actions, one environment on one core.

What is timed is all that a training loop calls: ``step``, ``reset`` after each episode, and the choice of a random
legal action from the observation's mask, through the wrappers that `gymnasium.make` puts around.

    python benchmarks/environments.py --steps 20000
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

import gymnasium
import numpy as np

import rlnas  # noqa: F401  (registers the ids)
from rlnas.envs import TableProblem
from rlnas.errors import RlnasError
from rlnas.evaluation import load_nas_bench_201
from rlnas.spaces import DecisionSpace

LEAST = 5_000
"""Steps a second that are asked for."""


def synthetic(seed: int, *, share: float, form: str) -> TableProblem:
    """Six decisions of five choices, scores from pairs of choices, and a limit that this share meets."""
    generator = np.random.default_rng(seed)
    space = DecisionSpace.of({f"decision{i}": range(5) for i in range(6)})
    chosen = np.indices(space.shape)
    alone, pairs = generator.standard_normal((6, 5)), generator.standard_normal((6, 6, 5, 5)) / 2
    scores = sum(alone[i, chosen[i]] + sum(pairs[i, j, chosen[i], chosen[j]] for j in range(i)) for i in range(6))
    return TableProblem(space, scores, form=form, allowed=generator.random(space.shape) < share)


def steps_per_second(env: gymnasium.Env, steps: int, *, seed: int = 0) -> float:
    """Play random legal actions."""
    generator = np.random.default_rng(seed)
    observation, _ = env.reset(seed=seed)
    begun = time.perf_counter()
    for _ in range(steps):
        legal = observation["action_mask"].nonzero()[0]
        observation, _, terminated, _, _ = env.step(legal[int(generator.random() * len(legal))])
        if terminated:
            observation, _ = env.reset()
    return steps / (time.perf_counter() - begun)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20_000, help="steps in one repetition")
    parser.add_argument("--data", help="NAS-Bench-201's file or its folder; by default what RLNAS_DATA names")
    parser.add_argument("--repeats", type=int, default=5, help="repetitions, of which the median counts")
    arguments = parser.parse_args()
    cases: dict[str, gymnasium.Env] = {
        f"rlnas/Build-v0 {form}, {share:.0%} allowed": gymnasium.make(
            "rlnas/Build-v0", problem=synthetic(0, share=share, form=form)
        )
        for form in ("build", "edit")
        for share in (1.0, 0.2)
    }
    try:
        load_nas_bench_201(arguments.data)
        for form in ("build", "edit"):
            for settings in ({}, {"device": "raspi4", "max_latency": "20%"}):
                name = f"rlnas/NASBench201-v0 {form}, {'20%' if settings else 'all'} allowed"
                cases[name] = gymnasium.make("rlnas/NASBench201-v0", path=arguments.data, form=form, **settings)
    except RlnasError as error:
        print(f"without NAS-Bench-201: {error}")
    slow = False
    for name, env in cases.items():
        found = [steps_per_second(env, arguments.steps, seed=i) for i in range(arguments.repeats)]
        median = statistics.median(found)
        slow |= median < LEAST
        print(f"{name:<42} {median:9,.0f} steps/s ({min(found):,.0f} to {max(found):,.0f})")
    print(f"at least {LEAST:,} steps/s everywhere: {'no' if slow else 'yes'}")
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())
