"""From the run directories of a comparison to what the searches found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from rlnas.cli.budget import within
from rlnas.cli.compare_settings import Cell
from rlnas.cli.parse import settings_from_dict
from rlnas.report.comparison import Search
from rlnas.runs import RunDirectory, read_evaluations, read_logs

STAGE = "controller"


def read_search(run: RunDirectory, cell: Cell) -> Search:
    """What one search that has ended found.

    Raises:
        RunError: If its log cannot be read.
    """
    settings = settings_from_dict(cell.settings)
    logs = read_logs(run.events)
    whole = within(read_evaluations(run.events, STAGE), settings)
    evaluations = _first_of_each(whole) if settings.count == "distinct" else whole
    winner = _final(run.best / "metrics.json")
    good = [e for e in evaluations if e["status"] == "ok" and e["accuracy"] is not None]
    entropies = [-values["train/entropy_loss"] for _, values in logs if values.get("train/entropy_loss") is not None]
    others = [values["time/search_other_s"] for _, values in logs if "time/search_other_s" in values]
    return Search(
        task=cell.task,
        controller=cell.controller,
        seed=cell.seed,
        best=_best_so_far(evaluations),
        seconds=_seconds([e["evaluation"] for e in evaluations], logs),
        other_s=others[-1] if others else 0.0,
        distinct=len({e["graph_key"] for e in evaluations}),
        infeasible=sum(e["status"] == "infeasible" for e in evaluations),
        failed=sum(e["status"] == "failed" for e in evaluations),
        late_new=_late_new([e["graph_key"] for e in whole]),
        sampled_accuracy=fmean(e["accuracy"] for e in good) if good else None,
        entropy=(entropies[0], entropies[-1]) if len(entropies) > 1 else None,
        reward=winner.get("reward"),
        accuracy=winner.get("validation_accuracy", winner.get("accuracy")),
        regret=winner.get("regret"),
        test_accuracy=winner.get("test_accuracy"),
    )


def _best_so_far(evaluations: Sequence[dict[str, Any]]) -> tuple[float | None, ...]:
    best: list[float | None] = []
    for evaluation in evaluations:
        before = best[-1] if best else None
        better = evaluation["status"] == "ok" and (before is None or evaluation["reward"] > before)
        best.append(evaluation["reward"] if better else before)
    return tuple(best)


def _first_of_each(evaluations: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Where only distinct networks count, those met again are left out."""
    found: dict[str, dict[str, Any]] = {}
    for evaluation in evaluations:
        found.setdefault(evaluation["graph_key"], evaluation)
    return list(found.values())


def _seconds(numbers: Sequence[int], logs: Sequence[tuple[int, dict[str, Any]]]) -> tuple[float, ...]:
    """When each evaluation was known: results come in batches, after each of which the log has the time."""
    times = [(step, float(values["time/search_s"])) for step, values in logs if "time/search_s" in values]
    last = times[-1][1] if times else 0.0
    return tuple(next((seconds for step, seconds in times if step >= number), last) for number in numbers)


def _late_new(keys: Sequence[str]) -> float:
    quarter = max(1, len(keys) // 4)
    seen = set(keys[:-quarter])
    late = keys[-quarter:]
    return sum(key not in seen and key not in late[:i] for i, key in enumerate(late)) / quarter


def _final(path: Path) -> dict[str, Any]:
    """The winner's figures; none if it was not evaluated again."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and found.get("stage") == "final" else {}
