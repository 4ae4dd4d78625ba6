"""Does a policy that learned on one task help on another? In 50 evaluations it should be where 150 from scratch lead.

    rlnas compare configs/compare/digits.yaml --name digits
    rlnas compare configs/compare/fashion.yaml --name fashion
    python benchmarks/transfer.py runs/digits runs/fashion

The searches from scratch are those of the two comparisons. For each seed and in both directions, the policy that a
search ended with on one task begins a search on the other (`controller.init_from`), with the settings and the seed that
the search from scratch had there, but for the number of evaluations. Compared is the mean reward of 25 evaluations, by
pairs of seeds: the last of the transferred 50, of the first 50 from scratch and of all 150; and the first of the
transferred 50. 95 % intervals over the seeds.

Searches that have ended are not repeated: the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import fmean

from rlnas.report.statistics import Estimate, mean_interval, paired_difference
from rlnas.runs import read_evaluations

LAST = 25
SHORT = (  # nothing but the search counts here
    "--final.random_baseline=false",
    "--final.candidates=1",
    "--final.seeds=1",
    "--final.epochs=0.1",
    "--tracking.mode=disabled",
    "--progress=false",
)


def searches(folder: Path, controller: str) -> dict[int, Path]:
    """Run directories of a comparison's finished searches by one controller, by seed."""
    found = {}
    for path in folder.glob(f"*.{controller}.*"):
        if (path / "report.md").exists():
            found[int(path.name.rsplit(".", 1)[1])] = path
    if not found:
        raise SystemExit(f"{folder} holds no finished search by {controller}: run `rlnas compare` with it first")
    return dict(sorted(found.items()))


def rewards(run: Path) -> list[float]:
    """Rewards of a search's evaluations in order."""
    return [evaluation["reward"] for evaluation in read_evaluations(run / "events.jsonl", "controller")]


def transfer(source: Path, target: Path, run: Path, evaluations: int) -> Path:
    """Search on the target's task with the source's policy, unless that has been done."""
    if (run / "report.md").exists():
        return run
    if run.exists():
        words = ["resume", str(run)]
    else:
        names = (f"--run.root={run.parent}", f"--run.name={run.name}", f"--controller.init_from={source}")
        words = ["train", "--config", str(target / "config.yaml"), f"--evaluations={evaluations}", *names, *SHORT]
    done = subprocess.run([sys.executable, "-m", "rlnas", *words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{run.name}: {done.stderr.strip() or done.returncode}")
    print(f"{run.name}: {fmean(rewards(run)[-LAST:]):.3f}", file=sys.stderr, flush=True)
    return run


def show(title: str, ways: dict[str, list[float]], *, than: str) -> None:
    """A table of ways to search, each with what it has more than one of them."""
    print(title)
    for name, values in ways.items():
        more = "" if name == than else f"{words(paired_difference(values, ways[than])):>28}"
        print(f"  {name:34}{mean_interval(values).mean:7.3f}{more}")


def words(estimate: Estimate) -> str:
    """An estimate with its interval."""
    span = estimate.interval
    return f"{estimate.mean:+.3f}" + ("" if span is None else f" [{span[0]:+.3f}, {span[1]:+.3f}]")


def main() -> None:
    """Search and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=Path, help="folder of a comparison")
    parser.add_argument("second", type=Path, help="folder of a comparison on another task")
    parser.add_argument("--controller", default="ppo")
    parser.add_argument("--evaluations", type=int, default=50, help="of the transferred policy")
    parser.add_argument("--jobs", type=int, default=2, help="searches at the same time")
    parser.add_argument("--output", type=Path, default=Path("runs/transfer"), help="folder of the searches")
    given = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    both = [searches(folder.absolute(), given.controller) for folder in (given.first, given.second)]
    for sources, targets in (both, both[::-1]):
        seeds = [seed for seed in sources if seed in targets]
        with ThreadPoolExecutor(given.jobs) as pool:
            names = [f"{sources[seed].name}-to-{targets[seed].name.split('.')[0]}" for seed in seeds]
            runs = [given.output.absolute() / name for name in names]
            budgets = [given.evaluations] * len(seeds)
            ended = list(pool.map(transfer, [sources[s] for s in seeds], [targets[s] for s in seeds], runs, budgets))
        scratch, moved = [rewards(targets[seed]) for seed in seeds], [rewards(run) for run in ended]
        total, early = len(scratch[0]), given.evaluations
        least = f"from scratch, {total - LAST + 1}-{total}"
        ways = {
            f"from scratch, {early - LAST + 1}-{early}": [fmean(found[early - LAST : early]) for found in scratch],
            least: [fmean(found[-LAST:]) for found in scratch],
            f"transferred, 1-{LAST}": [fmean(found[:LAST]) for found in moved],
            f"transferred, {early - LAST + 1}-{early}": [fmean(found[early - LAST : early]) for found in moved],
        }
        source, target = (folder[seeds[0]].name.split(".")[0] for folder in (sources, targets))
        show(f"{source} to {target}, {len(seeds)} seeds: mean reward, and more than {least}", ways, than=least)


if __name__ == "__main__":
    main()
