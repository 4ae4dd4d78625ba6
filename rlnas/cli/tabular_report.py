"""What a person sees at the end of a run whose results were looked up: the best of each search and its worth."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from rlnas.envs import TableProblem
from rlnas.report.pareto import Point, csv_text
from rlnas.report.plot import LABELS, save_pareto_plot
from rlnas.runs import RunDirectory, write_text
from rlnas.tracking import TeeTracker


@dataclass(frozen=True)
class Answer:
    """What a search found.

    Attributes:
        name: The controller's.
        evaluation: The record of highest reward, of equal ones the first; None if nothing was looked up.
        test_accuracy: Its test accuracy, which no search sees; None if the table has none.
        regret: What the best test accuracy within the limits has beyond it; None where a search is paid for costs too.
        regret_in_reward: What the highest reward within the limits has beyond its reward.
    """

    name: str
    evaluation: dict[str, Any] | None = None
    test_accuracy: float | None = None
    regret: float | None = None
    regret_in_reward: float | None = None

    @classmethod
    def of(cls, name: str, found: Sequence[dict[str, Any]], problem: TableProblem) -> Answer:
        """The answer of a search that made these evaluations."""
        scored = [evaluation for evaluation in found if evaluation["status"] == "ok"]
        if not scored:
            return cls(name)
        best = max(scored, key=lambda evaluation: evaluation["reward"])
        inside, chosen = problem.feasible.allowed, problem.space.from_choices(best["choices"])
        missed = float(np.nanmax(problem.scores[inside])) - best["reward"]
        test = problem.hidden.get("test_accuracy")
        if test is None:
            return cls(name, best, regret_in_reward=missed)
        own = float(test[chosen])
        missed_in_test = float(np.nanmax(test[inside])) - own if pays_accuracy(problem) else None
        return cls(name, best, own, missed_in_test, missed)


def pays_accuracy(problem: TableProblem) -> bool:
    """True if a search is paid the accuracy itself, so that the best test accuracy is what it should have found."""
    return np.array_equal(problem.scores, problem.columns["accuracy"], equal_nan=True)


def write_report(
    run: RunDirectory,
    answers: Sequence[Answer],
    *,
    problem: TableProblem,
    found: Mapping[str, Sequence[Mapping[str, Any]]],
    tracker: TeeTracker,
    console: Console,
    begun: float,
) -> None:
    """Print the comparison and write ``report.md``, ``pareto.csv`` and ``pareto.png``.

    Args:
        answers: One for each search, the controller's first.
        found: Evaluations of each search by its controller's name.
        begun: When the run began, in seconds since 1970.
    """
    paid = "validation accuracy" if pays_accuracy(problem) else "reward"
    rows = _rows(answers, found, paid)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for answer in answers:
        table.add_column(answer.name, justify="right", overflow="fold")
    for label, cells in rows:
        table.add_row(label, *cells)
    console.print(table)
    lines = [
        f"# {run.path.name}",
        "",
        f"{problem.feasible.count:,} of {problem.space.size:,} meet {problem.limits}. A search is paid "
        f"{'the validation accuracy' if pays_accuracy(problem) else 'a reward of the validation accuracy and a cost'}; "
        "its answer is the best by that. Regret is what the best within the limits has beyond the answer.",
        "",
        "| | " + " | ".join(answer.name for answer in answers) + " |",
        "|---|" + "---:|" * len(answers),
        *("| " + " | ".join([label, *(cell.replace("|", "\\|") for cell in cells)]) + " |" for label, cells in rows),
        "",
        f"Wall time {time.time() - begun:.1f} s.",
        "",
    ]
    write_text(run.report, "\n".join(lines))
    cost = next((name for name in LABELS if name in problem.columns), None)
    excuse = None
    if cost is not None:
        evaluations = next(iter(found.values()))
        known = [e for e in evaluations if e["status"] == "ok"]
        write_text(run.pareto_csv, csv_text(evaluations, cost=cost))
        excuse = save_pareto_plot(
            run.pareto_png,
            [Point(e["accuracy"], e[cost]) for e in known],
            winners={a.name: Point(a.evaluation["accuracy"], a.evaluation[cost]) for a in answers if a.evaluation},
            cost=cost,
            title=f"{len(evaluations)} evaluations by {answers[0].name}",
        )
    tracker.event("final", {a.name: {"test_accuracy": a.test_accuracy, "regret": a.regret} for a in answers})
    console.print(f"best: {run.best}   report: {run.report}" + (f"   {excuse}" if excuse else ""))


def _rows(
    answers: Sequence[Answer], found: Mapping[str, Sequence[Mapping[str, Any]]], paid: str
) -> list[tuple[str, list[str]]]:
    """Label and cells of each line; without those that no search has."""

    def line(label: str, of: Callable[[Answer], Any], form: str) -> tuple[str, list[str]]:
        values = [of(answer) for answer in answers]
        return label, ["-" if value is None else format(value, form) for value in values]

    def known(name: str) -> Callable[[Answer], Any]:
        return lambda answer: None if answer.evaluation is None else answer.evaluation.get(name)

    rows = [
        ("evaluations", [f"{len(evaluations):,}" for evaluations in found.values()]),
        ("distinct", [f"{len(_looked_up(evaluations)):,}" for evaluations in found.values()]),
        line("best by reward" if paid == "reward" else "best by validation", known("cell"), ""),
        *([line("reward", known("reward"), ".4f")] if paid == "reward" else []),
        line("validation accuracy", known("accuracy"), ".2%"),
        line("test accuracy", lambda answer: answer.test_accuracy, ".2%"),
        line("regret in test accuracy", lambda answer: answer.regret, ".2%"),
        line(f"regret in {paid}", lambda answer: answer.regret_in_reward, ".4f" if paid == "reward" else ".2%"),
        line("latency in ms", known("latency_ms"), ".3f"),
        line("parameters", known("n_params"), ",.0f"),
        line("multiply-accumulates", known("macs"), ",.0f"),
    ]
    return [row for row in rows if set(row[1]) != {"-"}]


def _looked_up(evaluations: Sequence[Mapping[str, Any]]) -> set[str]:
    return {e["graph_key"] for e in evaluations if e["cache_key"]}
