"""A whole search by the command line, shortened: what it leaves behind, resume, kill -9, same seed."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import rlnas as package
from rlnas.tasks import load_task
from tests.cli.running import QUICK, TIMED, begin, rlnas
from tests.processes import Apart

DETERMINISTIC = ("--reward.cost=macs", "--evaluations=8", *QUICK)


def evaluations(run: Path, search: str = "controller") -> list[dict[str, Any]]:
    """Evaluations of one search without what a clock has touched."""
    lines = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    found = [line["values"] for line in lines if line["kind"] == "evaluation" and line["values"]["search"] == search]
    return [{k: v for k, v in e.items() if k not in ("latency_ms", "cached")} for e in found]


def policy(run: Path) -> dict[str, torch.Tensor]:
    """Weights and optimizer state of the last checkpoint."""
    from safetensors.torch import load_file

    last = sorted((run / "checkpoints" / "controller").iterdir())[-1]
    return load_file(last / "controller.safetensors")


def same_policy(first: Path, second: Path) -> bool:
    a, b = policy(first), policy(second)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with two workers, and with latencies that were measured."""
    folder = tmp_path_factory.mktemp("train")
    done = rlnas("train", *DETERMINISTIC, *TIMED, "--evaluation.workers=2", "--run.name=whole", folder=folder)
    assert done.returncode == 0, done.stderr
    for words in ("start network", "test accuracy", "random", "ppo", "wall time", "best network"):
        assert words in done.stdout, done.stdout
    return folder / "runs" / "whole"


def test_run_directory_is_complete(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()}
    expected = {"config.yaml", "evaluations.sqlite", "events.jsonl", "checkpoints", "best", "pareto.csv", "pareto.png"}
    assert expected | {"report.md"} <= names
    assert {p.name for p in (finished / "best").iterdir()} == {
        "graph.json",
        "weights.safetensors",
        "model.py",
        "model.onnx",
        "metrics.json",
    }
    assert yaml.safe_load((finished / "config.yaml").read_text())["reward"]["cost"] == "macs"
    assert (finished / "pareto.png").read_bytes()[:4] == b"\x89PNG"
    for search in ("controller", "random"):
        assert len(evaluations(finished, search)) == 8
    assert len((finished / "pareto.csv").read_text().splitlines()) >= 2


def test_every_evaluation_has_its_figures(finished: Path) -> None:
    lines = [json.loads(line) for line in (finished / "events.jsonl").read_text().splitlines()]
    for line in lines:
        if line["kind"] == "evaluation":
            value = line["values"]
            assert value["latency_ms"] > 0 and 0 <= value["accuracy"] <= 1 and value["n_params"] > 0
            assert len(value["operators"]) == len(value["edits"]) <= 6


def test_best_network_loads_and_gives_the_reported_accuracy(finished: Path) -> None:
    network = package.load(finished / "best")
    task = load_task("digits")
    with torch.no_grad():
        accuracy = task.accuracy(network.module().eval()(task.test.inputs), task.test.targets)
    assert accuracy == json.loads((finished / "best" / "metrics.json").read_text())["test_accuracy"]


def test_model_source_alone_reproduces_the_test_accuracy(finished: Path, tmp_path: Path) -> None:
    """In a process that cannot import rlnas: an isolated interpreter in which the package is forbidden."""
    task = load_task("digits")
    torch.save({"x": task.test.inputs, "y": task.test.targets}, tmp_path / "test.pt")
    code = (
        "import sys; sys.modules['rlnas'] = None\n"
        f"sys.path.insert(0, {str(finished / 'best')!r})\n"
        "import torch\n"
        "from model import load\n"
        f"data = torch.load({str(tmp_path / 'test.pt')!r}, weights_only=True)\n"
        f"network = load({str(finished / 'best' / 'weights.safetensors')!r})\n"
        "with torch.no_grad(): right = (network(data['x']).argmax(1) == data['y']).double().mean()\n"
        "print(repr(float(right)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == json.loads((finished / "best" / "metrics.json").read_text())["test_accuracy"]


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_same_seed_inline_with_one_worker_and_two(finished: Path, tmp_path: Path, workers: int) -> None:
    own = (f"--evaluation.workers={workers}", "--final.random_baseline=False", "--run.name=other")
    done = rlnas("train", *DETERMINISTIC, *own, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert evaluations(tmp_path / "runs" / "other") == evaluations(finished)
    assert same_policy(tmp_path / "runs" / "other", finished)


def test_resume_of_a_finished_run_changes_nothing(finished: Path) -> None:
    model = finished / "best" / "model.py"
    before = evaluations(finished), evaluations(finished, "random"), model.read_text()
    done = rlnas("resume", str(finished), folder=finished.parents[1])
    assert done.returncode == 0, done.stderr
    assert before == (evaluations(finished), evaluations(finished, "random"), model.read_text())


def start(folder: Path, *words: str) -> Apart:
    """Begin a search and leave it running."""
    return begin("train", *DETERMINISTIC, "--evaluation.workers=2", "--run.name=cut", *words, folder=folder)


def rows(store: Path) -> int:
    """Finished evaluations that another process can read."""
    if not store.exists():
        return 0
    try:
        with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as connection:
            return int(connection.execute("SELECT COUNT(*) FROM evaluations WHERE status = 'ok'").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def wait_for(store: Path, count: int, process: Apart) -> None:
    """Wait until so many evaluations are stored."""
    end = time.monotonic() + 120
    while rows(store) < count:
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.01)


@pytest.mark.parametrize("count", [3, 8, 12])
@pytest.mark.slow
def test_killed_run_keeps_its_evaluations_and_resumes_to_the_same_end(
    finished: Path, tmp_path: Path, count: int
) -> None:
    process, run = start(tmp_path), tmp_path / "runs" / "cut"
    wait_for(run / "evaluations.sqlite", count, process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert rows(run / "evaluations.sqlite") >= count
    done = rlnas("resume", "runs/cut", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert evaluations(run) == evaluations(finished)
    assert evaluations(run, "random") == evaluations(finished, "random")
    assert same_policy(run, finished)
    assert rows(run / "evaluations.sqlite") == rows(finished / "evaluations.sqlite")
    ours, theirs = (json.loads((r / "best" / "metrics.json").read_text()) for r in (run, finished))
    assert ours["test_accuracy"] == theirs["test_accuracy"] and ours["edits"] == theirs["edits"]


def test_interrupted_run_says_how_to_go_on_and_does(finished: Path, tmp_path: Path) -> None:
    process, run = start(tmp_path, "--final.random_baseline=False"), tmp_path / "runs" / "cut"
    wait_for(run / "evaluations.sqlite", 5, process)
    os.killpg(process.pid, signal.SIGINT)  # what Ctrl-C does: the workers get it too
    output = "".join(process.communicate(timeout=60))
    assert process.returncode == 130, output
    assert "rlnas resume runs/cut" in output and "Traceback" not in output
    done = rlnas("resume", "runs/cut", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert evaluations(run) == evaluations(finished) and same_policy(run, finished)
