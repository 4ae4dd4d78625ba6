"""What is read from a run directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rlnas.cli.compare_results import read_search
from rlnas.cli.compare_settings import Cell
from rlnas.runs import RunDirectory


def run_of(folder: Path, rewards: list[tuple[str, float, str]], final: dict[str, Any] | None = None) -> RunDirectory:
    """A run of batches of two: (graph, reward, status) of each evaluation, a second for each batch."""
    lines = []
    for number, (key, reward, status) in enumerate(rewards, 1):
        for search in ("controller", "random"):
            values = {"search": search, "evaluation": number, "graph_key": key, "cache_key": key, "status": status}
            values |= {"reward": reward if search == "controller" else 99.0, "accuracy": reward / 2}
            lines.append({"kind": "evaluation", "step": number, "values": values})
        if number % 2 == 0:
            times = {"time/search_s": number / 2, "time/search_other_s": number / 20}
            lines += [{"kind": "log", "step": number, "values": times}]
            lines += [{"kind": "log", "step": number, "values": {"train/entropy_loss": -3.0 + number / 2}}]
    run = RunDirectory(folder)
    run.events.write_text("".join(json.dumps(line) + "\n" for line in lines))
    if final is not None:
        run.best.mkdir()
        (run.best / "metrics.json").write_text(json.dumps(final))
    return run


ROWS = [
    ("a", 0.5, "infeasible"),
    ("b", 0.6, "ok"),
    ("b", 0.6, "ok"),
    ("c", 0.9, "failed"),
    ("d", 0.7, "ok"),
    ("c", 0.65, "ok"),
]


def test_a_search_that_counts_all(tmp_path: Path) -> None:
    final = {"stage": "final", "reward": 0.68, "validation_accuracy": 0.33, "test_accuracy": 0.31}
    found = read_search(run_of(tmp_path, ROWS, final), Cell("t", "c", 3, {"evaluations": 6}))
    assert found.best == (None, 0.6, 0.6, 0.6, 0.7, 0.7)
    assert found.seconds == (1.0, 1.0, 2.0, 2.0, 3.0, 3.0) and found.other_s == pytest.approx(0.3)
    assert (found.distinct, found.infeasible, found.failed) == (4, 1, 1)
    assert found.entropy == (2.0, 0.0) and found.collapsed == "entropy"
    assert found.sampled_accuracy == pytest.approx((0.6 + 0.6 + 0.7 + 0.65) / 8)
    assert (found.value, found.accuracy, found.test_accuracy, found.regret) == (0.68, 0.33, 0.31, None)
    assert found.late_new == 0.0  # the last of six was seen before


def test_a_search_that_counts_distinct_networks(tmp_path: Path) -> None:
    settings = {"evaluations": 4, "count": "distinct", "controller": {"n_envs": 2}}
    final = {"stage": "final", "reward": 0.7, "accuracy": 0.35, "regret": 0.01}
    found = read_search(run_of(tmp_path, ROWS, final), Cell("t", "c", 3, settings))
    assert found.best == (None, 0.6, 0.6, 0.7) and found.seconds == (1.0, 1.0, 2.0, 3.0)
    assert (found.accuracy, found.regret) == (0.35, 0.01)


@pytest.mark.parametrize("final", [None, {"stage": "search", "reward": 5.0}, ["damaged"]])
def test_without_winners_evaluated_again(tmp_path: Path, final: Any) -> None:
    found = read_search(run_of(tmp_path, ROWS, final), Cell("t", "c", 3, {"evaluations": 6}))
    assert found.reward is None and found.value == 0.7
