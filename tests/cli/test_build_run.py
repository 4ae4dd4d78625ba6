"""A whole search over networks that decisions make, by the command line: what it leaves, resuming, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

import rlnas as package
from tests.cli.inside import Inside
from tests.cli.running import rlnas
from tests.cli.test_train import DETERMINISTIC, evaluations, same_policy

SETTINGS = {
    "space": {"name": "chain", "max_macs": "2x", "options": {"layers": 2, "filters": [3, 4], "training": ["momentum"]}},
    "evaluation": {"workers": 0},
    "reward": {"cost": "macs"},
    "controller": {"name": "reinforce"},
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "chain.yaml"
    path.write_text(yaml.safe_dump(SETTINGS))
    return path


@pytest.mark.slow
def test_a_search_ends_with_a_network_and_resumes_to_the_same(config: Path, tmp_path: Path) -> None:
    words = ("--config", str(config), *DETERMINISTIC, "--final.random_baseline=False")
    for name in ("whole", "cut"):
        done = rlnas("train", *words, f"--run.name={name}", folder=tmp_path)
        assert done.returncode == 0, done.stderr
    whole, cut = tmp_path / "runs" / "whole", tmp_path / "runs" / "cut"
    last = sorted((cut / "checkpoints" / "controller").iterdir())[-1]
    for file in last.glob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:-40])
    done = rlnas("resume", "runs/cut", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert evaluations(cut) == evaluations(whole) and same_policy(cut, whole)
    best = json.loads((whole / "best" / "metrics.json").read_text())
    assert best == json.loads((cut / "best" / "metrics.json").read_text()) | {
        name: best[name] for name in ("latency_ms", "latency_interval_ms")
    }
    network = package.load(whole / "best")
    assert network.graph.macs == best["macs"] and any(word.startswith("momentum=") for word in best["operators"])
    done = rlnas("export", "runs/whole", "--to", "out", folder=tmp_path)
    assert done.returncode == 0 and (tmp_path / "out" / "model.py").is_file(), done.stderr
    done = rlnas("validate", "runs/whole", folder=tmp_path)
    assert done.returncode == 0 and "weights of its own" in done.stdout, done.stdout + done.stderr
    events = (whole / "events.jsonl").read_text()
    (whole / "events.jsonl").write_text(events.replace('"momentum": 0.8', '"momentum": 0.7'))
    done = rlnas("validate", "runs/whole", "--sample", "0", folder=tmp_path)
    assert done.returncode == 1, done.stdout
    (whole / "events.jsonl").write_text(events)
    done = rlnas("show", "runs/whole", folder=tmp_path)
    assert "filters1=" in done.stdout, done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--space.width=4"], "space.width does nothing"),
        (["--space.start=net.py:Net"], "space.start does nothing"),
        (["--space.promote_every=5"], "space.promote_every does nothing"),
        (["--space.options={lairs: 2}"], "lairs"),
        (["--space.options={max_macs: 2}"], "set space.max_macs"),
        (["--space.options={training: [rate]}"], "hyper-parameter"),
        (["--space.max_macs=7"], "macs <= 7"),
        (["--space.name=conv_stages"], "space.options does nothing"),
        (["--evaluation.control=true"], "control=true"),
    ],
    ids=lambda given: given[0] if isinstance(given, list) else "",
)
def test_what_does_nothing_is_refused(inside: Inside, config: Path, words: list[str], said: str) -> None:
    error = inside.fails("train", "--config", str(config), "--tracking.mode=disabled", *words)
    assert said in error
