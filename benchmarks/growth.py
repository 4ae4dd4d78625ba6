"""Does it pay to grow a trained network instead of training each new one from the beginning, and does it last?

    python benchmarks/growth.py [--task digits fashion_mnist] [--seeds N] [--steps 20] [--quick]
                                [--output growth.json] [--plot growth.png]

Protocol. One seed is one lineage with its own split of the data. The start is `rlnas.spaces.conv_stages` (3 stages of
8 channels), trained for 3 epochs from fresh weights. Then come 20 growth steps. In each, one of widen, deepen,
grow_kernel and insert_residual is drawn, then one of its sites, evenly, among those after which the network has at
most 1 + 0.8 t times the multiply-accumulates of the start (t: number of the step); the operator is applied, and the
network trained for 1 epoch from the weights that it inherits. Every training is `rlnas.evaluation.TrainingEvaluator`
with its default recipe: SGD with Nesterov momentum 0.9, learning rate 0.05 after a warm-up of 5 % of the steps, then
a half cosine to zero, weight decay 5e-4, gradients clipped at a norm of 5, a fresh optimizer, BatchNorm's statistics
taken anew at the end. So every step restarts at the full learning rate. Batches are of 32 (digits, 1,000 training
images) and 64 (Fashion-MNIST at 14 x 14, 10,000 training images).

Compared. After steps 5, 10, 15 and 20, the network right after its growth (inherited weights, not yet trained in its
new form) and the same graph with fresh weights are each trained by that recipe for 1/3, 1, 3, 6 and 12 epochs. Each
length is a training of its own with its own cosine, from the same weights, so that a point of a curve is what one gets
who stops there. Accuracy is that on the validation split; the test split is never looked at. What a seed gives is
averaged over the four steps before anything else, so that the intervals (95 %, Student's t) are over independent seeds.

Cost is read in two ways. In the first the inherited weights are given, as in a search, which has trained the parent
anyhow: only a network's own epochs count. In the second the training of the start and of all ancestors counts too, in
multiply-accumulates, told in epochs of the network itself.

With --output, what a seed gives is stored once it is there; the same command then goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

from rlnas.evaluation import TrainingEvaluator
from rlnas.graph import Graph, Site
from rlnas.network import Network
from rlnas.operators import get_operator
from rlnas.report.statistics import Estimate, mean_interval
from rlnas.spaces import conv_stages
from rlnas.tasks import Task, load_task

OPERATORS = ("deepen", "grow_kernel", "insert_residual", "widen")
BUDGETS = (1 / 3, 1.0, 3.0, 6.0, 12.0)
TARGET = 3.0
START_EPOCHS, GROWTH_EPOCHS = 3.0, 1.0
PACE = 0.8  # growth of the limit on multiply-accumulates in a step, in multiples of the start's

Curve = Mapping[float, float]
"""Accuracy after so many epochs."""


@dataclass(frozen=True)
class Setting:
    """How a task is trained.

    Attributes:
        options: Options of the task.
        batch_size: Samples in a step.
        seeds: Lineages.
    """

    options: Mapping[str, Any]
    batch_size: int
    seeds: int


SETTINGS = {
    "digits": Setting({}, 32, 8),
    "fashion_mnist": Setting({"resolution": 14, "train_size": 10_000}, 64, 5),
}


@dataclass(frozen=True)
class Point:
    """Both curves at one step of one lineage.

    Attributes:
        inherited: Cost of training all ancestors, in epochs of this network.
    """

    seed: int
    step: int
    macs: int
    n_params: int
    inherited: float
    grown: Curve
    scratch: Curve


def seeded(*key: int) -> torch.Generator:
    """A generator for one purpose of one seed."""
    return torch.Generator().manual_seed(sum(part * 1_000**place for place, part in enumerate(key)))


def draw(graph: Graph, *, max_macs: float, generator: torch.Generator) -> Site:
    """A growth: an operator, then one of its sites, each evenly among those within the limit."""
    legal: dict[str, list[Site]] = {}
    for name in OPERATORS:
        operator = get_operator(name)
        sites = [site for site in operator.sites(graph) if operator.edit(graph, site).graph.macs <= max_macs]
        if sites:
            legal[name] = sites
    sites = list(legal.values())[int(torch.randint(len(legal), (), generator=generator))]
    return sites[int(torch.randint(len(sites), (), generator=generator))]


def train(network: Network, task: Task, *, epochs: float, batch_size: int, seed: int) -> tuple[float, Network]:
    """Accuracy on the validation split after so many epochs, and the trained network."""
    evaluation = TrainingEvaluator(task, epochs=epochs, batch_size=batch_size).evaluate(network, seed=seed)
    if evaluation.trained is None:
        raise SystemExit(f"a training failed: {evaluation.reason}")
    return evaluation.metrics.accuracy, evaluation.trained


def lineage(task: Task, *, seed: int, steps: int, batch_size: int) -> Iterator[tuple[int, Network]]:
    """Number of the step and the network right after its growth, for each step."""
    start = conv_stages(task.input_shape, task.n_classes)
    network = Network.initialize(start, generator=seeded(seed, 1))
    sites, changes = seeded(seed, 2), seeded(seed, 3)
    _, network = train(network, task, epochs=START_EPOCHS, batch_size=batch_size, seed=seed)
    for step in range(1, steps + 1):
        site = draw(network.graph, max_macs=start.macs * (1 + PACE * step), generator=sites)
        network = get_operator(site.operator).apply(network, site, generator=changes)
        yield step, network
        if step < steps:
            _, network = train(network, task, epochs=GROWTH_EPOCHS, batch_size=batch_size, seed=seed + step)


def curve(network: Network, task: Task, budgets: Sequence[float], *, batch_size: int, seed: int) -> dict[float, float]:
    """Accuracy after trainings of several lengths, each from the weights given."""
    return {b: train(network, task, epochs=b, batch_size=batch_size, seed=seed)[0] for b in budgets}


def measure(name: str, *, seed: int, steps: int, at: Sequence[int], budgets: Sequence[float]) -> list[Point]:
    """Both curves at the chosen steps of one lineage."""
    setting = SETTINGS[name]
    task = load_task(name, split_seed=seed, **setting.options)
    points: list[Point] = []
    cost = START_EPOCHS * conv_stages(task.input_shape, task.n_classes).macs
    for step, grown in lineage(task, seed=seed, steps=steps, batch_size=setting.batch_size):
        macs = grown.graph.macs
        if step in at:
            fresh = Network.initialize(grown.graph, generator=seeded(seed, 4, step))
            both = [
                curve(network, task, budgets, batch_size=setting.batch_size, seed=seed + 500)
                for network in (grown, fresh)
            ]
            points.append(Point(seed, step, macs, grown.graph.n_params, cost / macs, *both))
        cost += GROWTH_EPOCHS * macs
    return points


# ---------------------------------------------------------------------------------------------------------- figures


def over_seeds(values: Sequence[tuple[int, float]]) -> Estimate:
    """Mean of the seeds' means, with its interval."""
    seeds = sorted({seed for seed, _ in values})
    return mean_interval([fmean(v for s, v in values if s == seed) for seed in seeds])


def epochs_to(target: float, grown: Curve) -> float:
    """Epochs after which a curve, drawn straight over log epochs between its points, reaches a target; or infinity."""
    before: tuple[float, float] | None = None
    for epochs, accuracy in sorted(grown.items()):
        if accuracy >= target:
            if before is None:
                return epochs
            share = (target - before[1]) / (accuracy - before[1])
            return before[0] * (epochs / before[0]) ** share
        before = (epochs, accuracy)
    return math.inf


def mean_curve(points: Sequence[Point], arm: str) -> dict[float, Estimate]:
    """Accuracy over epochs, with intervals over the seeds."""
    return {b: over_seeds([(p.seed, getattr(p, arm)[b]) for p in points]) for b in points[0].grown}


def percent(estimate: Estimate, *, sign: bool = False) -> str:
    """An estimate and its interval in per cent."""
    form = "+.2f" if sign else ".2f"
    if estimate.interval is None:
        return f"{100 * estimate.mean:{form}}"
    low, high = (format(100 * end, form) for end in estimate.interval)
    return f"{100 * estimate.mean:{form}} [{low}, {high}]"


def report(name: str, points: Sequence[Point]) -> str:
    """The figures of one task as text."""
    seeds, steps = sorted({p.seed for p in points}), sorted({p.step for p in points})
    last = max(points[0].grown)
    lines = [f"{name}: {len(seeds)} seeds, after steps {', '.join(map(str, steps))}; accuracy in %, 95 % intervals"]
    lines.append(f"{'epochs':>8}  {'grown':>22}  {'from scratch':>22}  {'grown less scratch':>22}")
    grown, scratch = mean_curve(points, "grown"), mean_curve(points, "scratch")
    for b in grown:
        gain = percent(less(points, b, b), sign=True)
        lines.append(f"{b:8.2f}  {percent(grown[b]):>22}  {percent(scratch[b]):>22}  {gain:>22}")
    third = TARGET / 3
    early, late = f"{third:g} less {TARGET:g}", f"{last:g} less {last:g}"
    lines.append(f"{'step':>8}  {'parameters':>10}  {'MACs':>9}  {'inherited':>9}  {early:>22}  {late:>22}")
    for step in steps:
        here = [p for p in points if p.step == step]
        size, macs, cost = (fmean(getattr(p, name) for p in here) for name in ("n_params", "macs", "inherited"))
        both = (percent(less(here, *ends), sign=True) for ends in ((third, TARGET), (last, last)))
        lines.append(f"{step:8}  {size:10,.0f}  {macs:9,.0f}  {cost:9.1f}  {'  '.join(f'{b:>22}' for b in both)}")
    lines += [
        f"({early}: grown after {span(third)} less scratch after {TARGET:g}; "
        "inherited: training of all ancestors, in epochs of this network)",
        "",
        *costs(points, last),
    ]
    return "\n".join(lines)


def costs(points: Sequence[Point], last: float) -> list[str]:
    """What growth costs and gives, in both ways to count."""
    third = TARGET / 3
    shares = sorted(epochs_to(p.scratch[TARGET], p.grown) / TARGET for p in points)
    within = sum(share <= 1 / 3 for share in shares)
    average = mean_curve(points, "grown"), mean_curve(points, "scratch")[TARGET].mean
    share = epochs_to(average[1], {b: e.mean for b, e in average[0].items()}) / TARGET
    lines = [
        "a network's own epochs, its inherited weights given:",
        f"  to what scratch has after {TARGET:g} epochs, as a share of these: mean curve {at_least(share)}, "
        f"median network {at_least(shares[len(shares) // 2])}, at most 1/3 in {within} of {len(shares)} networks",
    ]
    lines += [compared(points, third, TARGET), compared(points, last, last)]
    spent = [p.inherited + third for p in points]
    lines += [
        "the training of all ancestors counted too:",
        f"  grown after {span(third)} has cost {min(spent):.1f} to {max(spent):.1f} epochs of its own (mean "
        f"{fmean(spent):.1f}), so {sum(s <= TARGET for s in spent)} of {len(spent)} networks are within the {TARGET:g} "
        "epochs of scratch",
    ]
    if last > TARGET:
        lines.append(compared(points, third, last))
    return lines


def compared(points: Sequence[Point], grown: float, scratch: float) -> str:
    """Grown after so many epochs against scratch after so many, as a line."""
    difference = less(points, grown, scratch)
    text = f"  grown after {span(grown)} less scratch after {scratch:g}: {percent(difference, sign=True)}"
    return f"{text}  {verdict(difference)}"


def less(points: Sequence[Point], grown: float, scratch: float) -> Estimate:
    """Grown after so many epochs less scratch after so many."""
    return over_seeds([(p.seed, p.grown[grown] - p.scratch[scratch]) for p in points])


def span(epochs: float) -> str:
    """A number of epochs in words."""
    return f"{epochs:g} epoch{'s' if epochs != 1 else ''}"


def at_least(share: float) -> str:
    """A share, as a bound where it is that of the shortest training."""
    return f"<= {share:.2f}" if share <= BUDGETS[0] / TARGET else f"{share:.2f}"


def verdict(difference: Estimate) -> str:
    """What an interval says of 'no worse'."""
    if difference.interval is None:
        return "(one seed: no interval)"
    low, high = difference.interval
    return "grown is better" if low > 0 else "scratch is better" if high < 0 else "not told apart"


# ------------------------------------------------------------------------------------------------------------ store

Protocol = Mapping[str, Any]


def save(path: Path, protocol: Protocol, points: Sequence[tuple[str, Point]]) -> None:
    """Write all points, whole or not at all."""
    rows = [{"task": name, **asdict(point)} for name, point in points]
    draft = path.with_name(path.name + ".tmp")
    draft.write_text(json.dumps({"protocol": protocol, "points": rows}, indent=1) + "\n")
    draft.replace(path)


def load(path: Path, protocol: Protocol) -> list[tuple[str, Point]]:
    """The points that a file holds; none if there is no file."""
    if not path.exists():
        return []
    content = json.loads(path.read_text())
    if content["protocol"] != protocol:
        raise SystemExit(f"{path} holds points of another protocol ({content['protocol']}); name another file")
    points = []
    for row in content["points"]:
        curves = {arm: {float(b): v for b, v in row.pop(arm).items()} for arm in ("grown", "scratch")}
        points.append((row.pop("task"), Point(**row, **curves)))
    return points


# ---------------------------------------------------------------------------------------------------------- picture

GROWN, SCRATCH, INK, MUTED, GRID = "#c2410c", "#0369a1", "#1f2933", "#5b6672", "#e3e7ec"


def draw_curves(path: Path, found: Mapping[str, Sequence[Point]]) -> None:
    """One row a task, one panel a step: mean accuracy over epochs with intervals over the seeds."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = max(len({p.step for p in points}) for points in found.values())
    figure = Figure(figsize=(1.2 + 2.9 * columns, 0.6 + 2.9 * len(found)), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(found), columns, squeeze=False, sharey="row")
    for row, (name, points) in zip(grid, found.items(), strict=True):
        steps = sorted({p.step for p in points})
        for axes, step in zip(row, steps, strict=False):
            here = [p for p in points if p.step == step]
            for arm, colour, label in (("grown", GROWN, "grown"), ("scratch", SCRATCH, "from scratch")):
                line = mean_curve(here, arm)
                epochs, means = list(line), [100 * e.mean for e in line.values()]
                axes.plot(epochs, means, color=colour, marker="o", markersize=3.5, linewidth=1.6, label=label)
                ends = [e.interval for e in line.values() if e.interval]
                if ends:
                    low, high = [100 * end[0] for end in ends], [min(100.0, 100 * end[1]) for end in ends]
                    axes.fill_between(epochs, low, high, color=colour, alpha=0.15, linewidth=0)
            axes.set_xscale("log")
            axes.set_xticks(epochs, ["1/3" if b < 1 else f"{b:g}" for b in epochs])
            axes.minorticks_off()
            axes.set_title(f"{name}, step {step}", loc="left", color=INK, fontsize=10)
            axes.grid(True, color=GRID, linewidth=0.8)
            axes.tick_params(colors=MUTED, labelcolor=INK, length=0)
            for side, spine in axes.spines.items():
                spine.set_visible(side in ("left", "bottom"))
                spine.set_color(GRID)
        tops = [p.grown[max(p.grown)] for p in points]
        floor = 100 * min(fmean(p.scratch[1.0] for p in points if p.step == step) for step in steps)
        row[0].set_ylim(max(0.0, floor), min(100.0, 100 * max(tops) + 1))
        row[0].set_ylabel("validation accuracy [%]", color=INK)
        for axes in row[len(steps) :]:
            axes.set_axis_off()
    for axes in grid[-1]:
        axes.set_xlabel("epochs", color=INK)
    grid[0][0].legend(frameon=False, labelcolor=INK, loc="lower right")
    figure.savefig(path)


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", nargs="+", choices=sorted(SETTINGS), default=sorted(SETTINGS))
    parser.add_argument("--seeds", type=int, help="lineages of each task (digits 8, fashion_mnist 5)")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="growth steps (20); curves at every quarter of them")
    parser.add_argument("--quick", action="store_true", help="digits, 2 seeds, 4 steps, trainings of at most 3 epochs")
    parser.add_argument("--output", type=Path, help="store all points as JSON, and go on from those stored")
    parser.add_argument("--plot", type=Path, help="also draw the curves into this PNG file (needs matplotlib)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    names, steps, budgets = options.task, options.steps or 20, BUDGETS
    if options.quick:
        names, steps, budgets = ["digits"], options.steps or 4, tuple(b for b in BUDGETS if b <= TARGET)
    at = sorted({max(1, steps * quarter // 4) for quarter in (1, 2, 3, 4)})
    protocol = {"steps": steps, "at": at, "budgets": list(budgets), "pace": PACE}
    stored = load(options.output, protocol) if options.output else []
    found: dict[str, list[Point]] = {}
    for name in names:
        count = options.seeds or (2 if options.quick else SETTINGS[name].seeds)
        found[name] = []
        for seed in range(options.first_seed, options.first_seed + count):
            points = [point for task, point in stored if (task, point.seed) == (name, seed)]
            if not points:
                points = measure(name, seed=seed, steps=steps, at=at, budgets=budgets)
                stored += [(name, point) for point in points]
                if options.output:
                    save(options.output, protocol, stored)
            found[name] += points
            line = ", ".join(
                f"step {p.step} {p.grown[max(budgets)]:.3f} / {p.scratch[max(budgets)]:.3f}" for p in points
            )
            print(f"{name} seed {seed}, grown / from scratch: {line}", file=sys.stderr, flush=True)
        print(report(name, found[name]), flush=True)
    if options.plot:
        draw_curves(options.plot, found)


if __name__ == "__main__":
    main()
