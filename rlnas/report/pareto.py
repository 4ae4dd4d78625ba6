"""Which networks no other one beats in both accuracy and cost, as a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from rlnas.rewards.fronts import Point, Ranges, dominates, front, hypervolume, relative_hypervolume

__all__ = [
    "COLUMNS",
    "Point",
    "Ranges",
    "csv_text",
    "dominates",
    "front",
    "hypervolume",
    "relative_hypervolume",
]

COLUMNS = ("graph_key", "accuracy", "latency_ms", "n_params", "macs", "peak_memory_bytes", "reward", "operators")


def csv_text(evaluations: Sequence[Mapping[str, Any]], *, cost: str = "latency_ms") -> str:
    """The front as the text of ``pareto.csv``, from the cheapest on.

    Args:
        evaluations: Rows as in ``info["evaluation"]``; those that did not end well, or have no such cost, are left out.
        cost: Column that is the cost.
    """
    good = [e for e in evaluations if e["status"] == "ok" and e.get(cost) is not None]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for i in front([Point(e["accuracy"], e[cost]) for e in good]):
        row = dict(good[i])
        row["operators"] = "; ".join(row.get("operators", ()))
        writer.writerow(["" if row.get(name) is None else row[name] for name in COLUMNS])
    return out.getvalue()
