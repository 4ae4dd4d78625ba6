"""What a person sees at the end of a run: the table, the picture, the front, where the time went."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from rich.console import Console

from rlnas.cli.final import Finished
from rlnas.envs import NetworkProblem
from rlnas.report.breakdown import Breakdown, Interval, breakdown
from rlnas.report.doubts import doubts_line
from rlnas.report.pareto import Point, csv_text
from rlnas.report.plot import save_pareto_plot
from rlnas.report.statistics import mean_interval, wilson_interval
from rlnas.report.table import Row, markdown_table, rich_table
from rlnas.rewards import Reference
from rlnas.runs import RunDirectory, write_text
from rlnas.tracking import TeeTracker


def write_report(
    run: RunDirectory,
    *,
    problem: NetworkProblem,
    finished: Sequence[Finished],
    found: Mapping[str, Sequence[Mapping[str, Any]]],
    main: str,
    tracker: TeeTracker,
    console: Console,
    begun: float,
) -> None:
    """Print the comparison and write ``report.md``, ``pareto.csv`` and ``pareto.png``.

    Args:
        finished: The networks that were trained to the end.
        found: Evaluations of each search by its controller's name.
        main: The controller whose search it was.
        begun: When the run began, in seconds since 1970.
    """
    rows = [_row(f, n_test=len(problem.service.task.test)) for f in finished]
    spent = _breakdown(problem, begun)
    console.print(rich_table(rows, title="Each network trained to the end on training and validation data"))
    evaluations = found[main]
    cost = problem.reward.cost
    write_text(run.pareto_csv, csv_text(evaluations, cost=cost))
    excuse = save_pareto_plot(
        run.pareto_png,
        [_point(e, cost) for e in evaluations if e["status"] == "ok"],
        start=_start_point(problem, cost),
        winners={f.winner.name: _final_point(f, cost) for f in reversed(finished) if f.winner.name != "start"},
        cost=cost,
        limit=_limit(problem, cost),
        title=f"{problem.service.task.name}: {len(evaluations)} evaluations by {main}",
    )
    counts = [*_counts(found), *map(_control, problem.controls), *_doubts(problem, found)]
    text = [
        f"# {run.path.name}",
        "",
        "Validation accuracy and reward: mean of fresh seeds with its 95 % interval. Test accuracy: scored once, with "
        "Wilson's 95 % interval.",
        "",
        markdown_table(rows),
        *(f"- {line}" for line in counts),
        f"- {spent.line()}",
        "",
    ]
    write_text(run.report, "\n".join(text))
    tracker.log(
        {"time/train_s": spent.train_s, "time/measure_s": spent.measure_s, "time/other_s": spent.other_s},
        step=len(evaluations),
    )
    tracker.event("final", {row.name: {"test_accuracy": row.test.mean if row.test else None} for row in rows})
    for line in [*counts, spent.line(), *([excuse] if excuse else [])]:
        console.print(line)
    console.print(f"best network: {run.best}   report: {run.report}" + ("" if excuse else f"   plot: {run.pareto_png}"))


def _row(finished: Finished, *, n_test: int) -> Row:
    winner, graph, latency = finished.winner, finished.network.graph, finished.latency
    return Row(
        name=winner.name,
        n_params=graph.n_params,
        macs=graph.macs,
        operators=winner.operators,
        validation=winner.accuracy,
        test=wilson_interval(round(finished.test_accuracy * n_test), n_test),
        latency_ms=latency.ms,
        latency_interval_ms=(latency.low_ms, latency.high_ms),
        reward=winner.reward,
    )


def _breakdown(problem: NetworkProblem, begun: float) -> Breakdown:
    service = problem.service
    intervals = [Interval("train", start, end) for start, end in service.training_intervals]
    intervals += [Interval("measure", start, end) for start, end in service.measuring_intervals]
    return breakdown(intervals, start_s=begun, end_s=time.time())


def _counts(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    lines = []
    for name, evaluations in found.items():
        distinct = len({e["graph_key"] for e in evaluations})
        screened = sum(e["status"] == "screened" for e in evaluations)
        bad = sum(e["status"] not in ("ok", "screened") for e in evaluations)
        lines.append(
            f"{name}: {len(evaluations)} evaluations, {distinct} distinct networks, {bad} failed or infeasible"
            + (f", {screened} screened out" if screened else "")
        )
    return lines


def _doubts(problem: NetworkProblem, found: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """What there is to say against the latencies of a run."""
    keys = {e["cache_key"] for evaluations in found.values() for e in evaluations if e.get("cache_key")}
    records = [problem.service.store.get(key) for key in sorted(keys)]
    line = doubts_line(record.measuring_environment for record in records if record is not None)
    return [] if line is None else [line]


def _control(reference: Reference) -> str:
    """What training alone gives."""
    mean = mean_interval(reference.accuracies)
    between = "" if mean.interval is None else f", {100 * mean.interval[0]:.2f} to {100 * mean.interval[1]:.2f} %"
    had = "an unknown number of" if reference.inherited_epochs is None else f"{reference.inherited_epochs:g}"
    return (
        f"control: the start network, trained for {had} epochs, reaches {100 * mean.mean:.2f} % on validation (mean of "
        f"{mean.n} seeds{between}) after {reference.epochs:g} more without an edit"
    )


def _point(evaluation: Mapping[str, Any], cost: str) -> Point:
    return Point(evaluation["accuracy"], evaluation[cost])


def _start_point(problem: NetworkProblem, cost: str) -> Point | None:
    value = problem.reward.reference.cost(cost)
    return None if value is None else Point(fmean(problem.reference.accuracies), value)


def _final_point(finished: Finished, cost: str) -> Point:
    graph = finished.network.graph
    value = {"latency_ms": finished.latency.ms, "macs": graph.macs, "n_params": graph.n_params}[cost]
    return Point(finished.winner.accuracy.mean, value)


def _limit(problem: NetworkProblem, cost: str) -> float | None:
    limits = problem.space.limits
    return {"latency_ms": problem.reward.max_latency_ms, "macs": limits.macs, "n_params": limits.n_params}[cost]
