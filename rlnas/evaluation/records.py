"""A row of the store."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from typing import Any, Final

from rlnas.evaluation.metrics import Candidate, Metrics, Status
from rlnas.evaluation.times import Interval

COLUMNS: Final[dict[str, str]] = {
    "cache_key": "TEXT NOT NULL UNIQUE",
    "graph": "TEXT NOT NULL",
    "graph_key": "TEXT NOT NULL",
    "start_id": "TEXT NOT NULL",
    "edits": "TEXT NOT NULL",
    "fresh": "INTEGER NOT NULL DEFAULT 0",
    "settings": "TEXT NOT NULL DEFAULT '{}'",
    "parent": "TEXT",
    "task_key": "TEXT NOT NULL",
    "recipe": "TEXT NOT NULL",
    "seed": "INTEGER NOT NULL",
    "status": "TEXT NOT NULL",
    "reason": "TEXT",
    "accuracy": "REAL",
    "scores": "TEXT NOT NULL DEFAULT '{}'",
    "epochs": "REAL",
    "inherited_epochs": "REAL",
    "n_params": "INTEGER NOT NULL",
    "macs": "INTEGER NOT NULL",
    "peak_memory_bytes": "INTEGER NOT NULL",
    "cost_s": "REAL",
    "training_started_at": "REAL NOT NULL",
    "training_finished_at": "REAL NOT NULL",
    "worker": "TEXT NOT NULL",
    "environment": "TEXT",
    "tries": "INTEGER NOT NULL DEFAULT 1",
    "weights": "TEXT",
    "run": "TEXT",
    "latency_ms": "REAL",
    "latency_low_ms": "REAL",
    "latency_high_ms": "REAL",
    "latency_n": "INTEGER",
    "meter": "TEXT",
    "measuring_started_at": "REAL",
    "measuring_finished_at": "REAL",
    "measuring_environment": "TEXT",
}
"""Columns of the table ``evaluations`` with their SQLite types; one that is added later is null or has a default."""


@dataclass(frozen=True)
class Record:
    """One stored evaluation.

    Attributes:
        cache_key: Hash of graph, start network, task, recipe and seed.
        graph: The architecture, as JSON.
        graph_key: Its canonical hash.
        start_id: Content hash of the start network.
        edits: Operators applied to the start network, as JSON.
        task_key: Hash of data and split.
        recipe: The evaluator's settings, as JSON.
        seed: Seed that the evaluation was asked for with.
        status: ``"ok"`` or ``"failed"``.
        reason: Why it failed.
        accuracy: None if it failed or measured none.
        n_params: Trained values of the graph.
        macs: Multiply-accumulates of the graph.
        peak_memory_bytes: Activation memory of the graph.
        cost_s: Seconds of training and scoring; None if it failed.
        training: When it was trained.
        worker: What trained it.
        parent: Canonical hash of the graph that the last edit was made to; None without edits.
        environment: Machine and versions that it was trained with, as JSON.
        tries: How often it was begun.
        weights: Content hash of the trained network; None if none was given out.
        run: Name of the run that had it evaluated.
        latency_ms: Median; None if it was not measured.
        latency_interval_ms: 95 % interval of the median.
        latency_n: Timed samples.
        meter: Description of the meter, as JSON.
        measuring: When the latency was measured.
        scores: Zero-cost scores and the like by name, as JSON.
        epochs: Passes over training data that the evaluation took.
        inherited_epochs: Passes that made the weights it began with; None where nobody knows.
        measuring_environment: Machine and versions that it was measured with, as JSON.
        fresh: 1 for weights of its own, not inherited from the start network.
        settings: Settings of the evaluator that are the candidate's own, as JSON; they are in the recipe too.
    """

    cache_key: str
    graph: str
    graph_key: str
    start_id: str
    edits: str
    task_key: str
    recipe: str
    seed: int
    status: Status
    reason: str | None
    accuracy: float | None
    n_params: int
    macs: int
    peak_memory_bytes: int
    cost_s: float | None
    training: Interval
    worker: str
    latency_ms: float | None = None
    latency_interval_ms: tuple[float, float] | None = None
    latency_n: int | None = None
    meter: str | None = None
    measuring: Interval | None = None
    scores: str = "{}"
    epochs: float | None = None
    inherited_epochs: float | None = None
    measuring_environment: str | None = None
    parent: str | None = None
    environment: str | None = None
    tries: int = 1
    weights: str | None = None
    run: str | None = None
    fresh: int = 0
    settings: str = "{}"

    @property
    def metrics(self) -> Metrics | None:
        """What was found; None if it failed."""
        if self.status != "ok" or self.cost_s is None:
            return None
        return Metrics(
            accuracy=self.accuracy,
            n_params=self.n_params,
            macs=self.macs,
            peak_memory_bytes=self.peak_memory_bytes,
            cost_s=self.cost_s,
            latency_ms=self.latency_ms,
            latency_interval_ms=self.latency_interval_ms,
            scores=json.loads(self.scores),
            epochs=self.epochs,
            inherited_epochs=self.inherited_epochs,
        )

    @property
    def candidate(self) -> Candidate:
        """What was evaluated."""
        return Candidate.from_json(
            {
                "graph": json.loads(self.graph),
                "start_id": self.start_id,
                "edits": json.loads(self.edits),
                "fresh": self.fresh,
                "training": json.loads(self.settings),
            }
        )

    def to_row(self) -> dict[str, Any]:
        """Values by the names of `COLUMNS`."""
        low, high = self.latency_interval_ms or (None, None)
        measured_from, measured_to = self.measuring or (None, None)
        split = {
            "training_started_at": self.training[0],
            "training_finished_at": self.training[1],
            "latency_low_ms": low,
            "latency_high_ms": high,
            "measuring_started_at": measured_from,
            "measuring_finished_at": measured_to,
        }
        return {name: split[name] if name in split else getattr(self, name) for name in COLUMNS}

    @classmethod
    def from_row(cls, row: sqlite3.Row) -> Record:
        """Inverse of `to_row`; a column that an older file lacks has its default."""
        values = {name: row[name] for name in row.keys() if name in cls.__dataclass_fields__}  # noqa: SIM118
        return cls(
            **values,
            training=(row["training_started_at"], row["training_finished_at"]),
            latency_interval_ms=_pair(row["latency_low_ms"], row["latency_high_ms"]),
            measuring=_pair(row["measuring_started_at"], row["measuring_finished_at"]),
        )


def _pair(first: float | None, second: float | None) -> tuple[float, float] | None:
    return None if first is None or second is None else (first, second)
