"""How well do zero-cost scores of untrained networks order NAS-Bench-201's cells by their published accuracy?

    python benchmarks/zero_cost.py [--data FOLDER] [--cells 300] [--batch-size 32] [--json zero_cost.json] [--quick]

Protocol. Cells are drawn at random, without replacement, from all 15,625. Each becomes a graph of rlnas with the
benchmark's own skeleton (16 channels, 5 cells in a stage, ReLU-convolution-BatchNorm, residual blocks of stride 2).
What an operation makes of nothing or for nobody is left out, so some graphs have fewer parameters than the published
network; where nothing is left out, their number must be the published one, and the run stops if it is not.
Nothing is trained: weights are fresh (He et al.), the batch is one of CIFAR-10's training images, drawn anew for each
cell, without augmentation. Compared with the published test accuracy after 200 epochs (mean over the benchmark's
seeds): Spearman's rank correlation, over the whole draw and over its better half, with 95 % bootstrap intervals over
cells. A network whose score is not defined (its output does not depend on its input) counts as worst.

The folder of data (``--data``, or ``RLNAS_DATA``, or ../shared/data) holds ``nasbench201.npz`` (arch, cifar10_params,
cifar10_macs, cifar10_test_ep200) and ``cifar10_jpeg.npz`` (images as JPEG streams). Needs Pillow.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch

from rlnas.errors import EvaluationError
from rlnas.evaluation.fitting import seeded
from rlnas.evaluation.scoring import score
from rlnas.evaluation.zero_cost import SCORES, VOTES, Probe, needed_scores, standings
from rlnas.evaluation.zero_cost.ranks import ranks
from rlnas.spaces import nas_bench_201, nas_bench_201_blocks
from rlnas.spaces.nas_bench_201 import EDGES, live_edges, parse_cell

PUBLISHED = {
    "az_nas": (0.913, "AZ-NAS, output of its notebook"),
    "vote": (0.82, "Abdelfattah et al., abstract and table"),
    "published parameters": (0.75, "from the benchmark's own data"),
    "synflow": (0.74, "Abdelfattah et al., from memory"),
    "jacob_cov": (0.73, "Abdelfattah et al., from memory"),
    "grad_norm": (0.58, "Abdelfattah et al., from memory"),
    "snip": (0.58, "Abdelfattah et al., from memory"),
}
"""Spearman's correlation on NAS-Bench-201 and CIFAR-10 as published, and where it was found."""
HELD_TO = ("az_nas", "vote", "published parameters")
"""Those with a source that was found: the measured value is to lie within `TOLERANCE`."""
TOLERANCE = 0.1
PIXEL_MEAN, PIXEL_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
BOOTSTRAPS = 1000


def data_folder(given: str | None) -> Path:
    """Where the data lie; ends the program if they do not."""
    folder = Path(given or os.environ.get("RLNAS_DATA") or Path(__file__).parents[2] / "shared" / "data")
    for name in ("nasbench201.npz", "cifar10_jpeg.npz"):
        if not (folder / name).is_file():
            sys.exit(f"{folder / name} is missing; name the folder of the data with --data or RLNAS_DATA")
    return folder


def images(path: Path, indices: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Training images of CIFAR-10, normalized, and their labels."""
    from PIL import Image

    data = np.load(path, allow_pickle=False)
    header, scan, offsets, labels = (data[name] for name in ("header", "train_scan", "train_off", "train_y"))
    pixels = np.stack(
        [
            np.asarray(Image.open(io.BytesIO(header.tobytes() + scan[offsets[i] : offsets[i + 1]].tobytes())))
            for i in indices
        ]
    )
    inputs = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values)[:, None, None] for values in (PIXEL_MEAN, PIXEL_STD))
    return ((inputs - mean) / std).contiguous(), torch.from_numpy(labels[list(indices)].astype(np.int64))


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's rank correlation."""
    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])


def with_interval(a: Sequence[float], b: Sequence[float], *, seed: int = 0) -> tuple[float, float, float]:
    """Spearman's correlation with a 95 % bootstrap interval over cells."""
    rng, x, y = np.random.default_rng(seed), np.asarray(a), np.asarray(b)
    drawn = []
    for _ in range(BOOTSTRAPS):
        chosen = rng.integers(0, len(x), len(x))
        drawn.append(spearman(x[chosen].tolist(), y[chosen].tolist()))
    low, high = np.quantile(drawn, (0.025, 0.975))
    return spearman(a, b), float(low), float(high)


def measure(folder: Path, *, cells: int, batch_size: int, seed: int) -> dict[str, Any]:
    """Score the cells; gives a row for each."""
    bench = np.load(folder / "nasbench201.npz", allow_pickle=False)
    chosen = np.random.default_rng(seed).choice(len(bench["arch"]), cells, replace=False)
    names = needed_scores(list(SCORES))
    pool = np.random.default_rng(seed + 1).choice(50_000, min(50_000, 4096), replace=False)
    inputs, targets = images(folder / "cifar10_jpeg.npz", pool.tolist())
    rows, whole = [], 0
    begun = time.perf_counter()
    for n, index in enumerate(chosen.tolist()):
        cell = bench["arch"][index].decode()
        graph = nas_bench_201(cell)
        published = int(bench["cifar10_params"][index])
        if complete(cell):
            assert graph.n_params == published, f"{cell}: {graph.n_params} parameters, published {published}"
            whole += 1
        assert graph.n_params <= published
        batch = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(index))[:batch_size]
        started = time.process_time()
        found: dict[str, float] = {}
        with seeded(index):
            probe = Probe(
                graph,
                inputs[batch],
                targets[batch],
                loss=torch.nn.functional.cross_entropy,
                seed=index,
                blocks=nas_bench_201_blocks(cell),
            )
            for name in names:
                try:
                    found |= score(probe, (name,))
                except EvaluationError:
                    continue  # counts as worst
        rows.append(
            {
                "cell": cell,
                "accuracy": float(bench["cifar10_test_ep200"][index]),
                "published parameters": published,
                "published macs": int(bench["cifar10_macs"][index]),
                "scores": found,
                "cpu_s": time.process_time() - started,
            }
        )
        if sys.stderr.isatty():
            print(f"\r{n + 1} of {cells} cells, {time.perf_counter() - begun:.0f} s", end="", file=sys.stderr)
    return {"rows": rows, "complete": whole, "wall_s": time.perf_counter() - begun}


def complete(cell: str) -> bool:
    """Whether every convolution of a cell stands between its input and its output."""
    ops = dict(zip(EDGES, parse_cell(cell), strict=True))
    live = live_edges(ops)
    return all(edge in live for edge, op in ops.items() if op.startswith("nor_conv"))


def results(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Correlations of each score, vote and published figure with accuracy."""
    accuracy = [row["accuracy"] for row in rows]
    median = float(np.median(accuracy))
    better = [i for i, a in enumerate(accuracy) if a >= median]
    found: dict[str, dict[str, Any]] = {}
    columns: dict[str, list[float]] = {}
    for name in [*SCORES, *VOTES]:
        needed = needed_scores([name])
        columns[name] = standings(
            name, [row["scores"] if all(n in row["scores"] for n in needed) else None for row in rows]
        )
    for name in ("published parameters", "published macs"):
        columns[name] = [float(row[name]) for row in rows]
    for name, values in columns.items():
        rho, low, high = with_interval(values, accuracy)
        target = PUBLISHED.get(name)
        found[name] = {
            "spearman": rho,
            "interval": [low, high],
            "better_half": spearman([values[i] for i in better], [accuracy[i] for i in better]),
            "undefined": sum(value == float("-inf") for value in values),
            "published": None if target is None else target[0],
            "source": None if target is None else target[1],
            "met": None if name not in HELD_TO else abs(rho - PUBLISHED[name][0]) <= TOLERANCE,
        }
    return dict(sorted(found.items(), key=lambda item: -item[1]["spearman"]))


def table(found: dict[str, dict[str, Any]]) -> str:
    """The results as text."""
    lines = [f"{'score':22}{'Spearman':>9}  {'95 % interval':16}{'better half':>12}{'published':>11}  held to it"]
    for name, row in found.items():
        low, high = row["interval"]
        published = "" if row["published"] is None else f"{row['published']:.3f}"
        met = "" if row["met"] is None else "within 0.1" if row["met"] else "NOT within 0.1"
        interval = f"{low:.3f} to {high:.3f}"
        lines.append(f"{name:22}{row['spearman']:9.3f}  {interval:16}{row['better_half']:12.3f}{published:>11}  {met}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", help="folder with nasbench201.npz and cifar10_jpeg.npz")
    parser.add_argument("--cells", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", help="write everything measured to this file")
    parser.add_argument("--quick", action="store_true", help="12 cells and 16 images: shows that it runs, nothing else")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cells, batch_size = (12, 16) if options.quick else (options.cells, options.batch_size)
    measured = measure(data_folder(options.data), cells=cells, batch_size=batch_size, seed=options.seed)
    found = results(measured["rows"])
    print(table(found))
    cpu = sum(row["cpu_s"] for row in measured["rows"])
    print(
        f"{cells} cells, batches of {batch_size}: {cpu:.0f} s of processor time, {measured['wall_s']:.0f} s in all; "
        f"{measured['complete']} cells without idle layers, each with exactly the published number of parameters"
    )
    if options.json:
        report = {"cells": cells, "batch_size": batch_size, "seed": options.seed, "results": found, **measured}
        Path(options.json).write_text(json.dumps(report, indent=1) + "\n")
    return 0 if options.quick or all(row["met"] is not False for row in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
