"""The evaluations of a run or a store: listed, and written as tables."""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlnas.evaluation import Store
from rlnas.runs import ROW_COLUMNS, RunDirectory, evaluation_rows, fingerprint
from rlnas.tracking import JsonlTracker
from tests.cli.inside import Inside
from tests.evaluation.test_store import FAILED, RECORD

EVENT = {
    "search": "controller",
    "status": "ok",
    "reason": None,
    "accuracy": 0.9,
    "latency_ms": None,
    "n_params": 1,
    "macs": 2,
    "peak_memory_bytes": 3,
    "operators": ["widen(conv1, 1.5)", "deepen(conv1, 3)"],
    "edits": [],
    "cached": False,
}


def event(number: int, key: str, **rest: Any) -> Mapping[str, Any]:
    return EVENT | {"evaluation": number, "cache_key": key, "reward": number / 10} | rest


@pytest.fixture
def run(inside: Inside) -> RunDirectory:
    """A run in the middle of its second evaluation; a third is stored that no one has seen yet."""
    made = RunDirectory.create("runs", "mine", stem="mine", config={"seed": 0, "run": {"store": None}})
    with Store(made.store) as store:
        store.put(replace(RECORD, run="mine"))
        store.put(replace(FAILED, run="mine"))
        store.put(replace(RECORD, cache_key="k3", run="mine", seed=5))
    tracker = JsonlTracker(made.events)
    tracker.event("evaluation", event(1, "k0"))
    tracker.event("evaluation", event(2, "bad", status="failed", reason="worker died", accuracy=None))
    tracker.event("evaluation", event(1, "k0", search="random"))
    tracker.event("evaluation", event(2, "bad", status="failed", reason="worker died", accuracy=None))  # played again
    tracker.close()
    with open(made.events, "a") as file:
        file.write('{"kind": "evaluation", "va')  # being written
    return made


def test_rows_are_those_of_the_log_then_of_the_store(run: RunDirectory) -> None:
    rows = evaluation_rows(run, {})
    shown = [(row["search"], row["evaluation"], row["status"], row["cache_key"], row["seed"]) for row in rows]
    big = 2**63 - 1
    assert shown == [
        ("controller", 1, "ok", "k0", big),
        ("controller", 2, "failed", "bad", big),
        ("random", 1, "ok", "k0", big),
        (None, None, "ok", "k3", 5),
    ]
    assert rows[0]["operators"] == "widen(conv1, 1.5), deepen(conv1, 3)" and rows[0]["cost_s"] == 0.5
    assert all(list(row) == list(ROW_COLUMNS) for row in rows)


def test_a_shared_store_shows_only_what_is_the_runs(run: RunDirectory, tmp_path: Path) -> None:
    with Store(tmp_path / "all.sqlite") as store:
        store.put(replace(RECORD, run="other"))
        store.put(replace(RECORD, cache_key="k7", run="other"))
        store.put(replace(RECORD, cache_key="k8", run="mine"))
    keys = [row["cache_key"] for row in evaluation_rows(run, {"run": {"store": str(tmp_path / "all.sqlite")}})]
    assert keys == ["k0", "bad", "k0", "k8"]


def test_a_list(inside: Inside, run: RunDirectory) -> None:
    lines = inside("show", "runs/mine").splitlines()
    assert "worker died" in lines[3] and "controller" in lines[3]
    assert "4 evaluations: 3 ok, 1 failed" in lines
    assert "best: controller 1, reward 0.1000, accuracy 0.3000" in lines
    assert "these are the last 1;" in inside("show", "runs/mine", "--last", "1")
    store = inside("show", str(run.store))
    assert "3 evaluations: 2 ok, 1 failed" in store and "best" not in store


def test_tables(inside: Inside, run: RunDirectory) -> None:
    rows = evaluation_rows(run, {})
    assert inside("show", "runs/mine", "--csv", "t.csv", "--parquet", "new/t.parquet").splitlines() == [
        "written: t.csv (4 evaluations)",
        "written: new/t.parquet (4 evaluations)",
    ]
    with open("t.csv", newline="") as file:
        read = list(csv.DictReader(file))
    assert [{k: v if v is not None else "" for k, v in row.items()} for row in read] == [
        {k: "" if v is None else str(v) for k, v in row.items()} for row in rows
    ]
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table("new/t.parquet")
    assert table.to_pylist() == [
        row | {"cached": None if row["cached"] is None else int(row["cached"])} for row in rows
    ]
    assert "t.csv exists already" in inside.fails("show", "runs/mine", "--csv", "t.csv")
    inside("show", "runs/mine", "--csv", "t.csv", "--force")


def test_what_a_person_can_get_wrong(inside: Inside, run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "--csv is for the directory of a run" in inside.fails("show", "net.py", "--csv", "t.csv")
    assert "--last=0 must be at least 1" in inside.fails("show", "runs/mine", "--last", "0")
    Path("file").write_text("")
    assert "cannot write file/t.csv" in inside.fails("show", "runs/mine", "--csv", "file/t.csv")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "pip install 'rlnas[parquet]'" in inside.fails("show", "runs/mine", "--parquet", "t.parquet")
    text = run.events.read_text().splitlines()
    run.events.write_text("\n".join(["{", *text[1:]]) + "\n")
    assert "is damaged: line 1 is not JSON" in inside.fails("show", "runs/mine")


def test_what_may_change_between_a_run_and_its_continuation() -> None:
    config = {"seed": 0, "evaluation": {"epochs": 3, "workers": 2}, "evaluations": 10, "run": {"name": "a"}}
    same = {"seed": 0, "evaluation": {"epochs": 3, "workers": 0}, "evaluations": 20, "run": {"name": "b"}}
    assert fingerprint(config) == fingerprint(same)
    assert fingerprint(config) != fingerprint(config | {"seed": 1})
    assert fingerprint(config) != fingerprint(config | {"evaluation": {"epochs": 4, "workers": 2}})
