"""Do controllers find better cells than random search, under a cap on latency? NAS-Bench-201 as a task.

    python benchmarks/nas_bench_201.py --file nasbench201.npz --jobs 2 --output suite.jsonl
    python benchmarks/nas_bench_201.py --file nasbench201.npz --controllers random ppo --cases ::6 --seeds 3
    python benchmarks/nas_bench_201.py --file nasbench201.npz --data-sets cifar100 --devices samsung_s7 --quantiles 30

A case is a data set, a device and a cap at a quantile of the device's latency. A controller builds cells decision by
decision in the environment; the query is validation accuracy after 12 epochs, and each distinct cell counts once,
however often it is proposed. Its answer is the cell of highest validation accuracy among those queried. Reported over
all cases, with 95 % intervals over seeds: the regret, which is the test accuracy (200 epochs) that the best cell under
the cap has beyond the answer's, in points; the same in the queried signal, which cannot improve by searching less;
and what is gained over random search of the same seed.

Entrants that are pretrained have read labels of another data set: the 12-epoch accuracies of `--labels` cells, those
whose text has the lowest hash. Below the controllers stand orders that need no controller: all feasible cells; those
that a ridge regression on one-hot choices, fitted to the same labels, holds best; and the other data set's own order,
all of its labels known.

The output holds a line for each (entrant, case, seed); what is there already is not run again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger

from rlnas.controllers import make_controller
from rlnas.controllers.pretraining import Labels
from rlnas.envs import EpisodeVecEnv, TableProblem, make_nas_bench_201
from rlnas.evaluation import load_nas_bench_201
from rlnas.report.statistics import Estimate, mean_interval, paired_difference

DEVICES = ("1080ti_1", "raspi4", "eyeriss", "fpga", "gold_6226", "titan_rtx_256")
QUANTILES = (20, 50, 80)
BUDGETS = (50, 150)
PLAYS = 10  # episodes per query at most, after which a policy that proposes nothing new is stopped


@dataclass(frozen=True)
class Entrant:
    """A controller with its arguments, the same for all cases.

    Attributes:
        controller: Name in the registry.
        arguments: Its arguments.
        n_envs: Episodes in a batch.
        labels: True if it reads labels of the other data set.
    """

    controller: str
    arguments: dict[str, Any]
    n_envs: int
    labels: bool = False


BOUNDED: dict[str, Any] = {"max_grad_norm": 1.0, "policy_kwargs": {"tanh_constant": 2.5}}
"""With bounded logits no policy becomes so certain of a cell that it proposes no other any more."""

ENTRANTS = {
    "random": Entrant("random", {}, 10),
    "evolution": Entrant("evolution", {"population": 20, "sample": 5}, 1),
    "local_search": Entrant("local_search", {"move": "first"}, 1),
    "largest": Entrant("largest", {}, 10),
    "reinforce": Entrant("reinforce", BOUNDED | {"learning_rate": 0.02, "advantage": "rank"}, 5),
    "ppo": Entrant("ppo", BOUNDED | {"learning_rate": 0.01, "n_epochs": 4, "rank": True}, 5),
    "imagination": Entrant("imagination", {}, 5),
    "pretrained": Entrant("imagination", {}, 5, labels=True),
}


@dataclass(frozen=True)
class Case:
    """A data set, a device and a cap.

    Attributes:
        data_set: Whose accuracies are asked for.
        device: Whose latency is capped.
        quantile: Where the cap lies among all latencies, in percent.
        other: The data set whose labels a pretrained entrant reads; None if there is none.
    """

    data_set: str
    device: str
    quantile: float
    other: str | None

    def __str__(self) -> str:
        return f"{self.data_set}/{self.device}/{self.quantile:g}"


class Table:
    """The file: columns over all cells, which go by their number in the space."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.cells = load_nas_bench_201(path)

    @property
    def data_sets(self) -> list[str]:
        """Those with 12-epoch validation and 200-epoch test accuracy."""
        names = self.cells.columns
        return [d for d in self.cells.datasets if {f"{d}_val_ep12", f"{d}_test_ep200"} <= set(names)]

    def validation(self, data_set: str) -> NDArray[np.float64]:
        """Accuracy after 12 epochs, in points."""
        return 100 * self.cells.accuracy(data_set, "val", epochs=12)

    def test(self, data_set: str) -> NDArray[np.float64]:
        """Test accuracy after 200 epochs, in points."""
        return 100 * self.cells.accuracy(data_set, "test", epochs=200)

    def problem(self, case: Case) -> TableProblem:
        """The case as a task."""
        return make_nas_bench_201(
            self.path, dataset=case.data_set, device=case.device, max_latency=f"{case.quantile:g}%"
        )

    def feasible(self, case: Case) -> NDArray[np.int64]:
        """The cells under the cap."""
        return np.flatnonzero(self.problem(case).feasible.allowed)

    def labelled(self, n: int) -> NDArray[np.int64]:
        """The n cells whose text has the lowest hash."""
        hashes = [hashlib.blake2b(str(text).encode(), digest_size=8).digest() for text in self.cells.cells]
        return np.array(sorted(range(len(hashes)), key=hashes.__getitem__)[:n])

    def labels(self, data_set: str, n: int) -> Labels:
        """Labels of one data set, without any limit; nothing of another one is read."""
        problem = make_nas_bench_201(self.path, dataset=data_set)
        layout = problem.layout
        plans = [
            [layout.action(slot, choice) for slot, choice in enumerate(problem.space.assignment(int(number)))]
            for number in self.labelled(n)
        ]
        return Labels.play(EpisodeVecEnv(problem, n_envs=min(n, 100)), plans)


def regret(table: Table, case: Case, queried: Sequence[int]) -> tuple[float, float]:
    """Points by which the best of the cells queried misses the best feasible one: in test, and in the signal."""
    feasible, validation, test = table.feasible(case), table.validation(case.data_set), table.test(case.data_set)
    answer = max(queried, key=lambda cell: validation[cell])
    return float(test[feasible].max() - test[answer]), float(validation[feasible].max() - validation[answer])


class Queries(BaseCallback):
    """Stops a search after so many distinct cells.

    Attributes:
        order: Numbers of the cells queried, each once, in order.
    """

    def __init__(self, problem: TableProblem, budget: int) -> None:
        super().__init__()
        self._problem, self._budget, self._plays = problem, budget, 0
        self.order: dict[int, None] = {}

    def _on_step(self) -> bool:
        for done, info in zip(self.locals["dones"], self.locals["infos"], strict=True):
            if done:
                self._plays += 1
                chosen = self._problem.space.from_choices(info["evaluation"]["choices"])
                self.order.setdefault(self._problem.space.number(chosen), None)
        return len(self.order) < self._budget and self._plays < PLAYS * self._budget


@cache
def load(path: str) -> Table:
    """The file, read once in each process."""
    return Table(path)


@dataclass(frozen=True)
class Job:
    """One search."""

    path: str
    name: str
    entrant: Entrant
    case: Case
    seed: int
    labels: str | None

    @property
    def key(self) -> str:
        """What tells it from other searches."""
        return json.dumps([self.name, asdict(self.entrant), asdict(self.case), self.seed], sort_keys=True)


def run(job: Job) -> dict[str, Any]:
    """One search: the cells queried, in order, and what they are worth."""
    torch.set_num_threads(1)
    table = load(job.path)
    problem = table.problem(job.case)
    arguments = job.entrant.arguments | ({"labels": job.labels} if job.entrant.labels else {})
    begun = time.process_time()
    env = EpisodeVecEnv(problem, n_envs=job.entrant.n_envs)
    controller = make_controller(job.entrant.controller, env, seed=job.seed, arguments=arguments)
    controller.set_logger(Logger(None, []))
    queries = Queries(problem, BUDGETS[-1])
    controller.learn(PLAYS * BUDGETS[-1] * env.max_steps, callback=queries)
    queried = list(queries.order)[: BUDGETS[-1]]
    return {
        "key": job.key,
        "name": job.name,
        "case": str(job.case),
        "seed": job.seed,
        "queried": queried,
        "regret": {str(budget): regret(table, job.case, queried[:budget]) for budget in BUDGETS},
        "duration_s": round(time.process_time() - begun, 3),
    }


def references(table: Table, cases: Iterable[Case], n_labels: int) -> dict[str, list[list[tuple[float, float]]]]:
    """Orders that need no controller: for each its regrets by case and budget."""
    found: dict[str, list[list[tuple[float, float]]]] = {}
    for case in cases:
        feasible = table.feasible(case)
        orders = {"all feasible": [feasible] * len(BUDGETS)}
        if case.other is not None:
            scores = {
                f"ridge, {n_labels} labels": ridge(table, case, n_labels),
                "other data set's order": table.validation(case.other),
            }
            for name, values in scores.items():
                order = feasible[np.argsort(-values[feasible], kind="stable")]
                orders[name] = [order[:budget] for budget in BUDGETS]
        for name, parts in orders.items():
            found.setdefault(name, []).append([regret(table, case, part.tolist()) for part in parts])
    return found


def ridge(table: Table, case: Case, n_labels: int) -> NDArray[np.float64]:
    """What a ridge regression on one-hot choices expects of every cell, from the other data set's labels."""
    assert case.other is not None
    space = table.cells.space
    x = np.concatenate(
        [np.eye(n)[choice.reshape(-1)] for n, choice in zip(space.shape, np.indices(space.shape), strict=True)], axis=1
    )
    rows = table.labelled(n_labels)
    y, mean = table.validation(case.other)[rows], x[rows].mean(axis=0)
    part = x[rows] - mean
    weights = np.linalg.solve(part.T @ part + np.eye(x.shape[1]), part.T @ (y - y.mean()))
    expected: NDArray[np.float64] = x @ weights
    return expected


def figures(results: Sequence[dict[str, Any]], others: dict[str, list[list[tuple[float, float]]]]) -> str:
    """The figures as text."""
    head = " | ".join(f"{f'{b} queries':>20}  {'gain on random':>22}  {'signal':>6}" for b in BUDGETS)
    lines = [f"{'':24}{head} | queried  s/search"]
    names = list(dict.fromkeys(result["name"] for result in results))
    for name in names:
        own = [result for result in results if result["name"] == name]
        parts = []
        for budget in map(str, BUDGETS):
            mine = by_seed(own, budget, 0)
            both = sorted(
                {(r["case"], r["seed"]) for r in own} & {(r["case"], r["seed"]) for r in of(results, "random")}
            )
            gain = ""
            if name != "random" and both:
                pair = [
                    by_seed([r for r in chosen if (r["case"], r["seed"]) in set(both)], budget, 0)
                    for chosen in (of(results, "random"), own)
                ]
                gain = words(paired_difference(*(list(values.values()) for values in pair)), sign="+")
            signal = fmean(by_seed(own, budget, 1).values())
            parts.append(f"{words(mean_interval(list(mine.values()))):>20}  {gain:>22}  {signal:6.2f}")
        queried, seconds = (fmean(f(r) for r in own) for f in (lambda r: len(r["queried"]), lambda r: r["duration_s"]))
        lines.append(f"{name:24}{' | '.join(parts)} | {queried:7.1f}  {seconds:8.2f}")
    for name, cases in others.items():
        parts = [
            f"{fmean(case[k][0] for case in cases):<20.2f}  {'':22}  {fmean(case[k][1] for case in cases):6.2f}"
            for k in range(len(BUDGETS))
        ]
        lines.append(f"{name:24}{' | '.join(parts)} |")
    return "\n".join(lines)


def of(results: Sequence[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """The results of one entrant."""
    return [result for result in results if result["name"] == name]


def by_seed(results: Sequence[dict[str, Any]], budget: str, which: int) -> dict[int, float]:
    """Mean regret over the cases, by seed."""
    seeds = sorted({result["seed"] for result in results})
    return {s: fmean(r["regret"][budget][which] for r in results if r["seed"] == s) for s in seeds}


def words(found: Estimate, *, sign: str = "") -> str:
    """A mean with its interval."""
    if found.interval is None:
        return f"{found.mean:{sign}.2f}"
    return f"{found.mean:{sign}.2f} [{found.interval[0]:{sign}.2f}, {found.interval[1]:{sign}.2f}]"


def all_cases(table: Table, data_sets: Sequence[str], devices: Sequence[str], quantiles: Sequence[float]) -> list[Case]:
    """Data sets x devices x caps."""
    known = [*table.data_sets, *table.cells.devices]
    missing = [name for name in (*data_sets, *devices) if name not in known]
    if missing:
        sys.exit(f"the file has no columns for {', '.join(missing)}; it has them for {', '.join(known)}")
    others = {name: next((o for o in table.data_sets if o != name), None) for name in data_sets}
    return [Case(s, d, q, others[s]) for s in data_sets for d in devices for q in quantiles]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", required=True, help="the table, an .npz file")
    parser.add_argument("--controllers", nargs="+", default=list(ENTRANTS), choices=list(ENTRANTS))
    parser.add_argument("--arguments", type=json.loads, default={}, help="further arguments of all of them, as JSON")
    parser.add_argument("--n-envs", type=int, help="episodes in a batch, for all of them")
    parser.add_argument("--data-sets", nargs="+", help="by default those of the file")
    parser.add_argument("--devices", nargs="+", default=list(DEVICES))
    parser.add_argument("--quantiles", nargs="+", type=float, default=list(QUANTILES), help="caps, in percent")
    parser.add_argument("--cases", default=":", help="slice of the cases, such as ::6")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--labels", type=int, default=500, help="labels of the other data set")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--output", type=Path, help="results as lines of JSON; continued if it is there")
    arguments = parser.parse_args()
    table = load(arguments.file)
    cases = all_cases(table, arguments.data_sets or table.data_sets, arguments.devices, arguments.quantiles)
    cases = cases[slice(*(int(part) if part else None for part in arguments.cases.split(":")))]
    done: dict[str, dict[str, Any]] = {}
    if arguments.output and arguments.output.exists():
        rows = (json.loads(line) for line in arguments.output.read_text().splitlines())
        done = {row["key"]: row for row in rows}
    with tempfile.TemporaryDirectory() as folder:
        files: dict[str, str] = {}
        if any(ENTRANTS[name].labels for name in arguments.controllers):
            for case in cases:
                if case.other is not None and case.other not in files:
                    files[case.other] = f"{folder}/{case.other}.json"
                    table.labels(case.other, arguments.labels).save(files[case.other])
        jobs = []
        for name in arguments.controllers:
            given = ENTRANTS[name]
            entrant = Entrant(
                given.controller, given.arguments | arguments.arguments, arguments.n_envs or given.n_envs, given.labels
            )
            for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
                jobs += [Job(arguments.file, name, entrant, c, seed, files.get(c.other or "")) for c in cases]
        missing = [job for job in jobs if job.key not in done]
        with multiprocessing.get_context("spawn").Pool(arguments.jobs) as pool:
            for result in pool.imap_unordered(run, missing, chunksize=1):
                done[result["key"]] = result
                if arguments.output:
                    with open(arguments.output, "a") as file:
                        file.write(json.dumps(result) + "\n")
    results = [done[job.key] for job in jobs]
    print(f"{len(cases)} cases, {arguments.seeds} seeds; mean regret in points with 95 % intervals over seeds")
    print(figures(results, references(table, cases, arguments.labels)))


if __name__ == "__main__":
    main()
