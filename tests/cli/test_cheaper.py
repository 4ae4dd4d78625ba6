"""A search that screens, halves, distills and controls, by the command line."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from tests.cli.running import QUICK, rlnas

SETTINGS = (
    "--reward.cost=macs",
    "--evaluations=8",
    *QUICK,
    "--controller.n_envs=8",
    "--evaluation.screen=az_nas",
    "--evaluation.keep=0.5",
    "--evaluation.halving=2",
    "--evaluation.rounds=2",
    "--evaluation.distill=0.5",
    "--evaluation.control=true",
    "--final.random_baseline=false",
)


@pytest.mark.slow
def test_everything_together(tmp_path: Path) -> None:
    done = rlnas("train", *SETTINGS, "--run.name=cheap", folder=tmp_path, timeout=900)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "runs" / "cheap"
    lines = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    found = [line["values"] for line in lines if line["kind"] == "evaluation"]
    assert {e["status"] for e in found} == {"ok", "screened"}
    assert {e["epochs"] for e in found if e["status"] == "ok"} == {0.15, 0.3}
    assert {e["inherited_epochs"] for e in found if e["status"] == "ok"} == {2.0}
    assert "screened out" in done.stdout
    report = (run / "report.md").read_text()
    assert "after 0.15 more without an edit" in report and "after 0.3 more without an edit" in report
    assert "control: the start network, trained for 2 epochs" in report
    rows = sqlite3.connect(run / "evaluations.sqlite").execute("SELECT recipe, scores, accuracy FROM evaluations")
    kinds: dict[str, int] = {}
    for recipe, scores, accuracy in rows.fetchall():
        settings = json.loads(recipe)
        kinds[settings["evaluator"]] = kinds.get(settings["evaluator"], 0) + 1
        if settings["evaluator"] == "zero_cost":
            assert accuracy is None and set(json.loads(scores)) >= {"expressivity", "trainability"}
        elif settings["score"] == "validation":
            assert settings["distill"] == 0.5
    assert kinds["zero_cost"] >= 4 and kinds["training"] > 8
    again = rlnas("resume", "runs/cheap", folder=tmp_path, timeout=900)
    assert again.returncode == 0, again.stderr
    assert json.loads((run / "best" / "metrics.json").read_text())["stage"] == "final"
