"""Does PPO learn fast on tables with interactions, and how much time is our own? Synthetic tables of 15,625 points.

    python benchmarks/synthetic.py --seeds 20 --jobs 2

Each table has 6 decisions of 5 choices: a random score for every choice and for every pair of choices, scaled to
[0, 1]. Reported for each controller, with 95 % intervals over tables: the best score after 200 samples (repeated ones
count), the mean score of the last 50 of 500 samples, how many of the 500 were distinct, and the processor time per
sample; a look-up takes next to none, so that this is our own.
"""

from __future__ import annotations

import argparse
import json
import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import multiprocessing
import time
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger

from rlnas.controllers import make_controller
from rlnas.envs import EpisodeVecEnv, TableProblem
from rlnas.report.statistics import mean_interval
from rlnas.spaces import DecisionSpace

DECISIONS, CHOICES = 6, 5
EARLY, LAST, SAMPLES = 200, 50, 500
ENTRANTS: dict[str, tuple[str, dict[str, Any], int]] = {
    "random": ("random", {}, 10),
    "evolution": ("evolution", {"population": 20, "sample": 5}, 1),
    "local_search": ("local_search", {"move": "first"}, 1),
    "reinforce": (
        "reinforce",
        {
            "memory": {"kind": "queue", "size": 5, "n_steps": 4, "exploit_after": 0.6},
            "without_replacement": True,
        },
        10,
    ),
    "ppo": (
        "ppo",
        {
            "learning_rate": 0.007,
            "batch_size": 24,  # four episodes
            "n_epochs": 3,
            "ent_coef": 0.05,
            "gae_lambda": 0.95,
            "clip_range": 0.3,
            "policy_kwargs": {"hidden_size": 64, "embedding_size": 64},
            "memory": {"kind": "imitation", "size": 5, "n_steps": 3, "ent_coef": 0.05, "exploit_after": 0.6},
            "without_replacement": True,
        },
        20,
    ),
    "imagination": ("imagination", {}, 10),
}
"""Controllers with their arguments and the episodes in a batch, the same for all tables."""


def scores(seed: int) -> NDArray[np.float64]:
    """A table, one axis for each decision, from 0 to 1."""
    rng = np.random.RandomState(seed)
    alone = rng.randn(DECISIONS, CHOICES)
    pairs = 0.5 * rng.randn(DECISIONS, DECISIONS, CHOICES, CHOICES)
    chosen = np.indices((CHOICES,) * DECISIONS)
    found = sum(alone[i][chosen[i]] for i in range(DECISIONS))
    found = found + sum(pairs[i, j][chosen[i], chosen[j]] for i in range(DECISIONS) for j in range(i))
    table: NDArray[np.float64] = (found - found.min()) / (found.max() - found.min())
    return table


class Samples(BaseCallback):
    """Records the reward of every episode, and stops after `SAMPLES`."""

    def __init__(self) -> None:
        super().__init__()
        self.rewards: list[float] = []
        self.cells: list[str] = []

    def _on_step(self) -> bool:
        for done, info in zip(self.locals["dones"], self.locals["infos"], strict=True):
            if done:
                self.rewards.append(float(info["evaluation"]["reward"]))
                self.cells.append(info["evaluation"]["graph_key"])
        return len(self.rewards) < SAMPLES


def run(job: tuple[str, int, dict[str, Any], int | None]) -> dict[str, Any]:
    """One controller on one table."""
    name, seed, further, n_envs = job
    torch.set_num_threads(1)
    controller_name, arguments, usual = ENTRANTS[name]
    space = DecisionSpace.of({f"decision_{i}": tuple(range(CHOICES)) for i in range(DECISIONS)})
    env = EpisodeVecEnv(TableProblem(space, scores(seed)), n_envs=n_envs or usual)
    controller = make_controller(controller_name, env, seed=seed, arguments=arguments | further)
    controller.set_logger(Logger(None, []))
    samples = Samples()
    begun = time.process_time()
    controller.learn(SAMPLES * env.max_steps, callback=samples)
    seconds = time.process_time() - begun
    rewards = samples.rewards[:SAMPLES]
    return {
        "name": name,
        "seed": seed,
        "best": max(rewards[:EARLY]),
        "last": fmean(rewards[-LAST:]),
        "distinct": len(set(samples.cells[:SAMPLES])),
        "ms": 1e3 * seconds / len(rewards),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--controllers", nargs="+", default=list(ENTRANTS), choices=list(ENTRANTS))
    parser.add_argument("--arguments", type=json.loads, default={}, help="further arguments of all of them, as JSON")
    parser.add_argument("--n-envs", type=int, help="episodes in a batch, for all of them")
    parser.add_argument("--seeds", type=int, default=20, help="tables")
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--output", type=Path, help="also write the figures as JSON")
    given = parser.parse_args()
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    jobs = [(name, seed, given.arguments, given.n_envs) for name in given.controllers for seed in seeds]
    with multiprocessing.get_context("spawn").Pool(given.jobs) as pool:
        results = pool.map(run, jobs, chunksize=1)
    print(f"{len(seeds)} tables; 95 % intervals")
    print(
        f"{'':14}{f'best of {EARLY}':>24}{f'mean of the last {LAST} of {SAMPLES}':>32}{'distinct':>10}{'ms/sample':>11}"
    )
    for name in given.controllers:
        own = [result for result in results if result["name"] == name]
        best, last = (mean_interval([r[key] for r in own]) for key in ("best", "last"))
        cells = [
            f"{e.mean:.4f} [{e.interval[0]:.4f}, {e.interval[1]:.4f}]" if e.interval else f"{e.mean:.4f}"
            for e in (best, last)
        ]
        distinct, ms = (fmean(r[key] for r in own) for key in ("distinct", "ms"))
        print(f"{name:14}{cells[0]:>24}{cells[1]:>32}{distinct:10.0f}{ms:11.2f}")
    if given.output:
        given.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
