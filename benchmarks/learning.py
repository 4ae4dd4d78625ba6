"""Do the controllers learn? Paired seeds on digits, one setting, MACs as the cost, so that every run is deterministic.

    python benchmarks/learning.py --seeds 8 --jobs 2

For each seed, every controller gets the same start network, the same evaluation seed and 150 evaluations. Printed:
the mean reward of the last 50 evaluations, with the 95 % interval of its difference to random search and to the start
network over the seeds; and the winner of each search, chosen by three fresh seeds for each of its five best networks
and then judged by three more.
"""

from __future__ import annotations

import argparse
import json
import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import multiprocessing
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch

from rlnas.controllers import make_controller, make_logger
from rlnas.controllers.callbacks import EvaluationCallback
from rlnas.envs import EpisodeVecEnv, make_problem
from rlnas.evaluation import Candidate
from rlnas.graph import Site
from rlnas.report.statistics import mean_interval
from rlnas.tracking import NullTracker

CONTROLLERS = ("random", "local_search", "reinforce", "ppo")
FRESH = 1_000_000  # offset of seeds that no search has seen


def search(problem: Any, name: str, *, seed: int, evaluations: int, n_envs: int) -> list[dict[str, Any]]:
    """All evaluations of one controller, in order."""
    found: list[dict[str, Any]] = []
    env = EpisodeVecEnv(problem, n_envs=n_envs, seed=seed)
    controller = make_controller(name, env, seed=seed, arguments={})
    callback = EvaluationCallback(NullTracker(), on_evaluation=found.append)
    controller.set_logger(make_logger(NullTracker(), evaluations=lambda: callback.evaluations))
    controller.learn(evaluations * env.max_steps, callback=callback)
    return found


def winner(problem: Any, found: list[dict[str, Any]], *, seed: int) -> float:
    """Reward of the winner after re-evaluation, by seeds that did not choose it."""
    distinct = {e["graph_key"]: e for e in sorted(found, key=lambda e: e["reward"]) if e["status"] == "ok"}
    best = sorted(distinct.values(), key=lambda e: -e["reward"])[:5]
    candidates = []
    for evaluation in best:
        graph, edits = problem.space.start, tuple(Site.from_json(site) for site in evaluation["edits"])
        for site in edits:
            graph = problem.space.edited(graph, site)
        candidates.append(Candidate(graph, problem.start_id, edits))
    rounds = [[r for _, r in problem.judge(candidates, seed=FRESH + 100 * seed + i)] for i in range(6)]
    chosen = max(range(len(candidates)), key=lambda c: statistics.fmean(r[c] for r in rounds[:3]))
    return statistics.fmean(r[chosen] for r in rounds[3:])


def run(job: tuple[int, int, int]) -> dict[str, Any]:
    """One seed: every controller on the same problem."""
    seed, evaluations, n_envs = job
    torch.set_num_threads(1)
    problem = make_problem(cost="macs", seed=seed)
    start = Candidate(problem.space.start, problem.start_id)
    rewards = [problem.judge([start], seed=FRESH + 100 * seed + i)[0][1] for i in range(10)]
    result: dict[str, Any] = {
        "seed": seed,
        "start": statistics.fmean(rewards),
        "accuracy": statistics.fmean(problem.reference.accuracies),
    }
    for name in CONTROLLERS:
        begun = time.perf_counter()
        found = search(problem, name, seed=seed, evaluations=evaluations, n_envs=n_envs)
        result[name] = {
            "last": statistics.fmean(e["reward"] for e in found[-50:]),
            "winner": winner(problem, found, seed=seed),
            "distinct": len({e["graph_key"] for e in found}),
            "duration_s": time.perf_counter() - begun,
        }
    problem.close()
    print(
        f"seed {seed}: " + ", ".join(f"{n} {result[n]['last']:.3f}" for n in CONTROLLERS), file=sys.stderr, flush=True
    )
    return result


def interval(values: list[float]) -> str:
    """Mean with its 95 % interval."""
    found = mean_interval(values)
    assert found.interval is not None
    return f"{found.mean:+.3f} [{found.interval[0]:+.3f}, {found.interval[1]:+.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8, help="paired seeds")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--evaluations", type=int, default=150)
    parser.add_argument("--n-envs", type=int, default=10, help="episodes in one update")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--output", type=Path, help="also write the figures as JSON")
    arguments = parser.parse_args()
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    jobs = [(seed, arguments.evaluations, arguments.n_envs) for seed in seeds]
    with multiprocessing.get_context("spawn").Pool(arguments.jobs) as pool:
        results = pool.map(run, jobs, chunksize=1)

    print(f"digits, {arguments.evaluations} evaluations, {len(results)} paired seeds; 95 % intervals")
    print(f"start network: accuracy {statistics.fmean(r['accuracy'] for r in results):.4f}, ", end="")
    print(f"reward {statistics.fmean(r['start'] for r in results):.3f}")
    columns = ("less random", "less start", "winner", "less random", "less local search")
    print(f"{'':14}{'last 50':>8}  " + "  ".join(f"{c:>{7 if c == 'winner' else 26}}" for c in columns))
    for name in CONTROLLERS:
        last = [r[name]["last"] for r in results]
        best = [r[name]["winner"] for r in results]
        print(
            f"{name:14}{statistics.fmean(last):8.3f}"
            f"  {interval([r[name]['last'] - r['random']['last'] for r in results]):>26}"
            f"  {interval([r[name]['last'] - r['start'] for r in results]):>26}"
            f"  {statistics.fmean(best):7.3f}"
            f"  {interval([r[name]['winner'] - r['random']['winner'] for r in results]):>26}"
            f"  {interval([r[name]['winner'] - r['local_search']['winner'] for r in results]):>26}"
        )
    if arguments.output:
        arguments.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
