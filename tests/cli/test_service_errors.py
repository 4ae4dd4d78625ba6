"""What goes wrong around a store, a disk, memory or a checkpoint: one clear line, exit status 2, and nothing lost."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import load_file

from rlnas.evaluation import Store
from rlnas.runs import read_evaluations
from tests.cli.running import QUICK, rlnas
from tests.cli.test_errors import fails, folder  # noqa: F401  (a fixture for every test)
from tests.evaluation.test_store import RECORD

SHORT = (*QUICK, "--reward.cost=macs", "--evaluations=8", "--final.random_baseline=false", "--evaluation.workers=0")


def test_a_store_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("notes.sqlite").write_text("not a database at all, but some notes\n" * 40)
    line = fails(["train", "--run.store=notes.sqlite"], tmp_path, capsys)
    assert "notes.sqlite" in line and "not readable as a database" in line
    assert Path("notes.sqlite").read_text().startswith("not a database at all")


def test_a_store_of_a_newer_version(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Store("later.sqlite") as store:
        store.put(RECORD)
    with sqlite3.connect("later.sqlite") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    line = fails(["train", "--run.store=later.sqlite"], tmp_path, capsys)
    assert "later.sqlite has the format 99" in line and "update rlnas" in line
    line = fails(["show", "later.sqlite"], tmp_path, capsys)
    assert "format 99" in line


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--evaluation.memory_limit_mb=0"], ["evaluation.memory_limit_mb", "above 0"]),
        (["--evaluation.memory_limit_mb=900", "--evaluation.workers=0"], ["memory_limit_mb=900", "workers"]),
        (["--evaluation.retries=-1"], ["evaluation.retries=-1", "at least 0"]),
        (["--evaluation.backend=rya"], ["evaluation.backend", "rya"]),
        (["--evaluation.address=auto"], ["address='auto'", "backend=ray"]),
        (["--evaluation.backend=ray", "--evaluation.workers=0"], ["backend=ray", "workers"]),
        (["--evaluation.lag=10", "--reward.cost=macs"], ["lag=10", "below"]),
        (["--evaluation.lag=2", "--reward.target_ms=1"], ["evaluation.lag", "without latency"]),
        (["--space.promote_every=0"], ["space.promote_every", "above 0"]),
        (["--run.weights_mb=-1"], ["run.weights_mb=-1", "at least 0"]),
    ],
)
def test_settings(
    words: list[str],
    expected: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = fails(["train", *words], tmp_path, capsys)
    assert all(word in line for word in expected), line


def failed(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that a command leaves by."""
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("rlnas: error: "), done.stderr
    return lines[0]


@pytest.mark.slow
def test_a_memory_limit_that_is_too_small_and_then_is_not(tmp_path: Path) -> None:
    words = [*SHORT, "--evaluation.workers=1", "--run.name=small"]
    line = failed(rlnas("train", *words, "--evaluation.memory_limit_mb=50", folder=tmp_path))
    assert "memory_limit_mb=50 is too small" in line and "give it at least" in line
    config = tmp_path / "runs" / "small" / "config.yaml"
    config.write_text(config.read_text().replace("memory_limit_mb: 50.0", "memory_limit_mb: 6000"))
    assert rlnas("resume", "runs/small", folder=tmp_path).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_full_disk_is_one_line_and_the_run_goes_on_when_there_is_room(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=440k", "tmpfs", disk], check=False).returncode:
        pytest.skip("this system does not let tests mount a small disk")
    try:
        line = failed(rlnas("train", *SHORT, f"--run.root={disk}", "--run.name=full", folder=tmp_path))
        assert "full" in line or "No space left" in line, line
        run = disk / "full"
        with Store(run / "evaluations.sqlite", read_only=True) as store:
            kept = {row.cache_key: row.accuracy for row in store.rows()}
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        done = rlnas("resume", str(run), folder=tmp_path)
        assert done.returncode == 0, done.stderr
        with Store(run / "evaluations.sqlite", read_only=True) as store:
            found = {row.cache_key: row.accuracy for row in store.rows()}
        assert kept and kept.items() <= found.items()
        events = read_evaluations(run / "events.jsonl", "controller")
    finally:
        subprocess.run(["umount", disk], check=True)
    whole = rlnas("train", *SHORT, "--run.name=whole", folder=tmp_path)
    assert whole.returncode == 0
    expected = read_evaluations(tmp_path / "runs" / "whole" / "events.jsonl", "controller")
    assert [(e["cache_key"], e["accuracy"], e["reward"]) for e in events] == [
        (e["cache_key"], e["accuracy"], e["reward"]) for e in expected
    ]


def evaluations(run: Path) -> list[dict[str, Any]]:
    """What a run evaluated; whether an answer came from the store depends on how often it was asked."""
    return [{k: v for k, v in e.items() if k != "cached"} for e in read_evaluations(run / "events.jsonl")]


@pytest.mark.slow
def test_damaged_and_foreign_checkpoints_are_passed_over(tmp_path: Path) -> None:
    for name, seed in (("one", 1), ("two", 2)):
        assert rlnas("train", *SHORT, f"--seed={seed}", f"--run.name={name}", folder=tmp_path).returncode == 0
    one, two = (tmp_path / "runs" / name for name in ("one", "two"))
    events = evaluations(one)
    earlier, last = sorted((one / "checkpoints" / "controller").iterdir())
    good = {path: (path / "controller.safetensors").read_bytes() for path in (earlier, last)}
    (last / "controller.safetensors").write_bytes(good[last][:-100])
    done = rlnas("resume", "runs/one", folder=tmp_path)
    assert done.returncode == 0 and "passed over a checkpoint" in done.stdout and "is damaged" in done.stdout
    assert evaluations(one) == events
    again, before = load_file(last / "controller.safetensors"), load_tensors(good[last])
    assert all(torch.equal(again[name], before[name]) for name in before)  # played again, to the same end
    shutil.copytree(two / "checkpoints" / "controller" / last.name, last, dirs_exist_ok=True)
    done = rlnas("resume", "runs/one", folder=tmp_path)
    assert done.returncode == 0 and "is another run's" in done.stdout
    assert evaluations(one) == events
    for path in (earlier, last):
        (path / "controller.safetensors").write_bytes(b"")
    line = failed(rlnas("resume", "runs/one", folder=tmp_path))
    assert "no checkpoint of this run can be used" in line and "remove" in line
    shutil.rmtree(one / "checkpoints" / "controller")
    assert rlnas("resume", "runs/one", folder=tmp_path).returncode == 0
    assert evaluations(one) == events


@pytest.mark.slow
def test_two_runs_share_a_store(tmp_path: Path) -> None:
    for name in ("one", "two"):
        done = rlnas("train", *SHORT, "--run.store=shared/all.sqlite", f"--run.name={name}", folder=tmp_path)
        assert done.returncode == 0, done.stderr
    logs = [read_evaluations(tmp_path / "runs" / name / "events.jsonl") for name in ("one", "two")]
    assert [e["cache_key"] for e in logs[0]] == [e["cache_key"] for e in logs[1]]
    assert all(e["cached"] for e in logs[1]) and not all(e["cached"] for e in logs[0])
    with Store(tmp_path / "shared" / "all.sqlite", read_only=True) as store:
        assert {row.run for row in store.rows()} == {"one"}
    assert not (tmp_path / "runs" / "one" / "evaluations.sqlite").exists()
    done = rlnas("show", "runs/two", folder=tmp_path)
    assert done.returncode == 0 and "controller" in done.stdout
