"""What cheaper judgements are worth: distillation, successive halving, screens by scores, and the surrogate.

    python benchmarks/cheaper.py [distillation] [halving] [surrogate] [--seeds 10] [--data FOLDER] [--json cheaper.json]

Protocol. A seed is one split of scikit-learn's digits (1,000 training images), one start network (`conv_stages`, 3
stages of 8 channels, 3 epochs of AdamW at 0.01, the recipe of `rlnas train`) and one draw of candidates, each the start
network after 1 to 3 random exact edits with at most 4 times its multiply-accumulates. Accuracy is that on the
validation split. Intervals are 95 %, Student's t over seeds.

distillation  6 candidates a seed are trained for 1/3, 1 and 3 epochs with several shares of the start network in the
              loss. "grown" ones are those described above; "shrunk" ones have lost half of the channels in 1 to 3
              places of a start network that was trained for 20 epochs. Reported: accuracy, and the paired difference
              from the same training on labels alone.
halving       27 candidates a seed. Judged by a full training of 3 epochs each; by successive halving with eta 3 and 3
              rounds (1/3, 1 and 3 epochs); by a zero-cost screen that lets a third pass, which are trained fully; by
              both; at random (9 candidates, trained fully). The network with the best accuracy is chosen. Reported: its
              accuracy when trained fully with 5 fresh seeds, and what the judging took in epochs of training.
surrogate     NAS-Bench-201's networks (``nasbench201.npz`` in the folder of data): the surrogate learns the 200-epoch
              test accuracy of 20, 50 or 100 random cells and predicts 200 others. Reported: Spearman's correlation,
              beside that of the number of parameters, and how often the 90 % intervals hold the accuracy (20 draws).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch

from rlnas.evaluation import (
    Candidate,
    Halving,
    ScoreRanker,
    Screen,
    Service,
    StartLibrary,
    Store,
    Surrogate,
    TrainingEvaluator,
    train_start,
)
from rlnas.evaluation.surrogate import graph_features
from rlnas.evaluation.zero_cost.ranks import ranks
from rlnas.graph import Site
from rlnas.network import Network
from rlnas.operators import get_operator
from rlnas.report.statistics import Estimate, mean_interval, paired_difference
from rlnas.spaces import conv_stages, nas_bench_201
from rlnas.tasks import Task, load_task

RECIPE: dict[str, Any] = {"optimizer": "adamw", "learning_rate": 0.01, "weight_decay": 0.01, "batch_size": 32}
START_EPOCHS, FULL, ETA, ROUNDS = 3.0, 3.0, 3.0, 3
BUDGETS, SHARES = (1 / 3, 1.0, 3.0), (0.0, 0.25, 0.5, 0.75, 1.0)
GROWN = (
    *(("widen", 1.5), ("widen", 2.0), ("deepen", 1.0), ("deepen", 3.0)),
    *(("grow_kernel", 2.0), ("insert_residual", 3.0)),
)
SHRUNK = (("prune_channels", 0.5),)
LONG_START = 20.0
MAX_MACS, FRESH_SEEDS = 4.0, 5


def setting(
    seed: int, n: int, *, edits_of: Sequence[tuple[str, float]] = GROWN, start_epochs: float = START_EPOCHS
) -> tuple[Task, Network, list[Candidate]]:
    """The task, start network and different candidates of a seed."""
    task = load_task("digits", split_seed=seed)
    graph = conv_stages(task.input_shape, task.n_classes, stages=3, width=8)
    start = train_start(graph, task, seed=seed, epochs=start_epochs, **RECIPE)
    rng = np.random.default_rng(seed)
    found: dict[str, Candidate] = {}
    while len(found) < n:
        edited, edits = graph, []
        for _ in range(int(rng.integers(1, 4))):
            name, amount = edits_of[int(rng.integers(len(edits_of)))]
            sites: Sequence[Site] = get_operator(name).sites(edited, (amount,))
            if sites:
                site = sites[int(rng.integers(len(sites)))]
                edited = get_operator(name).edit(edited, site).graph
                edits.append(site)
        if edits and edited.macs <= MAX_MACS * graph.macs:
            found.setdefault(edited.key, Candidate(edited, start.content_hash, tuple(edits)))
    return task, start, list(found.values())


def service_of(task: Task, start: Network, **rest: Any) -> Service:
    """A service in this process that trains fully."""
    starts = StartLibrary()
    starts.add(start)
    evaluator = TrainingEvaluator(task, epochs=FULL, **RECIPE, **rest)
    return Service(evaluator, task, starts=starts, store=Store(), kept=0)


def accuracies(service: Service, candidates: Sequence[Candidate], seed: int | Sequence[int]) -> list[float]:
    """Accuracies of candidates; a failed one counts as none right."""
    found = service.evaluate(candidates, seed=seed)
    return [0.0 if e.metrics is None or e.metrics.accuracy is None else e.metrics.accuracy for e in found]


def distillation(seeds: int) -> list[dict[str, Any]]:
    """Mean accuracy of each budget and share, and its difference from labels alone."""
    means: dict[tuple[str, float, float], list[float]] = {}
    kinds: dict[str, dict[str, Any]] = {"grown": {}, "shrunk": {"edits_of": SHRUNK, "start_epochs": LONG_START}}
    for kind, options in kinds.items():
        for seed in range(seeds):
            task, start, candidates = setting(seed, 6, **options)
            service = service_of(task, start)
            for budget in BUDGETS:
                for share in SHARES:
                    evaluator = TrainingEvaluator(task, epochs=budget, distill=share, **RECIPE)
                    found = accuracies(service.with_evaluator(evaluator), candidates, seed)
                    means.setdefault((kind, budget, share), []).append(fmean(found))
            progress(f"distillation, {kind}: seed {seed + 1} of {seeds}")
    return [
        {
            "candidates": kind,
            "epochs": budget,
            "share": share,
            "accuracy": estimate(mean_interval(found)),
            "difference": estimate(paired_difference(found, means[kind, budget, 0.0])) if share else None,
        }
        for (kind, budget, share), found in means.items()
    ]


def halving(seeds: int) -> list[dict[str, Any]]:
    """Accuracy of what each way of judging chooses, and the epochs it takes."""
    chosen: dict[str, list[float]] = {}
    epochs: dict[str, list[float]] = {}
    for seed in range(seeds):
        task, start, candidates = setting(seed, 27)
        plain = service_of(task, start)
        rng = np.random.default_rng(1000 + seed)
        some = [candidates[i] for i in rng.choice(27, 9, replace=False)]
        for name in ("all, fully", "halving", "screen", "screen, then halving", "9 at random, fully"):
            service = Service(plain.evaluator, task, starts=plain.starts, store=Store(), kept=0)
            layered: Any = service
            if "halving" in name:
                layered = Halving.of_epochs(service, rounds=ROUNDS, eta=ETA)
            if "screen" in name:
                layered = Screen(layered, ScoreRanker(service, "az_nas"), keep=1 / 3)
            batch = some if "random" in name else candidates
            found = layered.evaluate(batch, seed=seed)
            full = [(e.metrics.epochs, e.metrics.accuracy, i) for i, e in enumerate(found) if e.metrics is not None]
            best = batch[max(full)[2]]
            again = accuracies(plain, [best] * FRESH_SEEDS, range(10_000, 10_000 + FRESH_SEEDS))
            chosen.setdefault(name, []).append(fmean(again))
            epochs.setdefault(name, []).append(sum(r.epochs or 0.0 for r in service.store.rows()))
        control = accuracies(plain, [Candidate(start.graph, start.content_hash)] * FRESH_SEEDS, range(FRESH_SEEDS))
        chosen.setdefault("control: no edit", []).append(fmean(control))
        everyone = accuracies(plain, candidates, 20_000)
        chosen.setdefault("any candidate", []).append(fmean(everyone))
        progress(f"halving: seed {seed + 1} of {seeds}")
    base = chosen["all, fully"]
    return [
        {
            "judged": name,
            "accuracy": estimate(mean_interval(found)),
            "difference": None if name == "all, fully" else estimate(paired_difference(found, base)),
            "epochs": fmean(epochs[name]) if name in epochs else None,
        }
        for name, found in chosen.items()
    ]


def surrogate(folder: Path, draws: int = 20) -> list[dict[str, Any]]:
    """How well the surrogate orders cells that it has not seen."""
    bench = np.load(folder / "nasbench201.npz", allow_pickle=False)
    pool = np.random.default_rng(0).choice(len(bench["arch"]), 600, replace=False)
    graphs = [nas_bench_201(bench["arch"][i].decode()) for i in pool]
    rows = [graph_features(graph) for graph in graphs]
    accuracy = [float(bench["cifar10_test_ep200"][i]) / 100 for i in pool]
    results = []
    for n in (20, 50, 100):
        rhos, plain, covered = [], [], []
        for draw in range(draws):
            order = np.random.default_rng(draw).permutation(len(pool)).tolist()
            known, asked = order[:n], order[n : n + 200]
            found = Surrogate([rows[i] for i in known], [accuracy[i] for i in known]).predict([rows[i] for i in asked])
            wanted = [accuracy[i] for i in asked]
            rhos.append(spearman([p.mean for p in found], wanted))
            plain.append(spearman([float(graphs[i].n_params) for i in asked], wanted))
            covered.append(fmean(p.interval[0] <= y <= p.interval[1] for p, y in zip(found, wanted, strict=True)))
        results.append(
            {
                "cells": n,
                "spearman": estimate(mean_interval(rhos)),
                "n_params": estimate(mean_interval(plain)),
                "covered": estimate(mean_interval(covered)),
            }
        )
        progress(f"surrogate: {n} cells")
    return results


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's rank correlation."""
    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])


def estimate(found: Estimate) -> dict[str, Any]:
    """Plain JSON types."""
    return {"mean": found.mean, "interval": found.interval, "n": found.n}


def shown(found: dict[str, Any] | None, *, percent: bool = True, sign: bool = False) -> str:
    """A mean with its interval."""
    if found is None:
        return "-"
    scale = 100 if percent else 1
    form = "+.2f" if sign else ".2f"
    low, high = found["interval"] or (found["mean"], found["mean"])
    return f"{scale * found['mean']:{form}} [{scale * low:{form}}, {scale * high:{form}}]"


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def tables(results: dict[str, list[dict[str, Any]]]) -> str:
    """Everything measured as text."""
    lines = []
    for row in results.get("distillation", []):
        share, gain = row["share"], shown(row["difference"], sign=True)
        lines.append(
            f"{row['candidates']:6} {row['epochs']:5.2f} epochs  share {share:4.2f}  {shown(row['accuracy'])} %  "
            f"difference {gain}"
        )
    for row in results.get("halving", []):
        spent = "" if row["epochs"] is None else f"{row['epochs']:5.1f} epochs"
        gain = shown(row["difference"], sign=True)
        lines.append(f"{row['judged']:22} {spent:14} {shown(row['accuracy'])} %  difference {gain}")
    for row in results.get("surrogate", []):
        own, plain = (shown(row[name], percent=False) for name in ("spearman", "n_params"))
        lines.append(f"{row['cells']:4} cells  Spearman {own}  parameters {plain}  covered {shown(row['covered'])} %")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=["distillation", "halving", "surrogate", []], default=[])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--data", help="folder with nasbench201.npz")
    parser.add_argument("--json", help="write everything measured to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(options.data or os.environ.get("RLNAS_DATA") or Path(__file__).parents[2] / "shared" / "data")
    begun = time.process_time()
    results: dict[str, list[dict[str, Any]]] = {}
    for part in options.parts or ["distillation", "halving", "surrogate"]:
        if part == "surrogate":
            if not (folder / "nasbench201.npz").is_file():
                sys.exit(f"{folder / 'nasbench201.npz'} is missing; name its folder with --data or RLNAS_DATA")
            results[part] = surrogate(folder)
        else:
            results[part] = {"distillation": distillation, "halving": halving}[part](options.seeds)
        print(tables({part: results[part]}), flush=True)
    print(f"{options.seeds} seeds, {time.process_time() - begun:.0f} s of processor time")
    if options.json:
        Path(options.json).write_text(json.dumps({"seeds": options.seeds, **results}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
