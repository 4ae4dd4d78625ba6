"""A comparison by the command line: what it leaves, Ctrl-C, kill -9, going on; and what a person can get wrong."""

from __future__ import annotations

import csv
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from rlnas.cli.compare_settings import read_comparison
from rlnas.errors import ConfigError
from tests.cli.inside import Inside
from tests.cli.running import REPOSITORY, begin, rlnas
from tests.processes import Apart

TINY: dict[str, Any] = {
    "seeds": 2,
    "jobs": 2,
    "controllers": {"random": {}, "first": {"name": "local_search", "n_envs": 1, "arguments": {"move": "first"}}},
    "settings": {
        "evaluations": 8,
        "controller": {"n_envs": 4},
        "space": {"max_steps": 2},
        "evaluation": {"epochs": 0.2, "start_epochs": 0.5, "start_evaluations": 5, "workers": 0},
        "reward": {"cost": "macs"},
        "latency": {"max_time_s": 0.02},
        "final": {"candidates": 1, "seeds": 1, "epochs": 0.2},
    },
}
CLOCKED = ("equal_s", "best_reward_in_equal_s", "search_s", "other_s")


def write(folder: Path, **changes: Any) -> Path:
    """A comparison's file in a folder."""
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY | changes, sort_keys=False))
    return path


def table(path: Path) -> list[dict[str, str]]:
    """Rows without what a clock has touched."""
    with open(path, newline="") as file:
        return [{k: v for k, v in row.items() if k not in CLOCKED} for row in csv.DictReader(file)]


def wait_for(process: Apart, path: Path, words: str, *, count: int) -> None:
    """Wait until a file holds something so many times."""
    end = time.monotonic() + 240
    while not path.exists() or path.read_text().count(words) < count:
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.02)


@pytest.mark.slow
def test_a_comparison_that_is_stopped_and_killed_comes_to_the_same_end(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
        write(folder)
    done = rlnas("compare", "tiny.yaml", folder=whole, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "[4/4] digits: " in done.stdout
    assert "no controller beats random search beyond the noise over 2 paired seeds of 8 evaluations" in " ".join(
        done.stdout.split()
    )
    runs = whole / "runs" / "tiny"
    assert {path.name for path in runs.iterdir()} >= {"report.html", "searches.csv", "curves.csv", "compare.yaml"}
    for name in ("digits.random.0", "digits.first.1"):
        config = yaml.safe_load((runs / name / "config.yaml").read_text())
        assert config["seed"] == int(name[-1]) and not config["final"]["random_baseline"]
        assert (runs / name / "best" / "model.py").is_file()
    rows = table(runs / "searches.csv")
    assert [(row["controller"], row["seed"]) for row in rows] == [
        (label, seed) for label in ("random", "first") for seed in "01"
    ]
    assert all(row["evaluations"] == "8" and row["reward"] and row["sampled_accuracy"] for row in rows)
    assert "On digits no controller" in (runs / "report.html").read_text()

    events = cut / "runs" / "tiny" / "digits.random.0" / "events.jsonl"
    process = begin("compare", "tiny.yaml", folder=cut)
    wait_for(process, events, '"kind": "evaluation"', count=4)
    os.kill(process.pid, signal.SIGINT)
    output = "".join(process.communicate(timeout=120))
    assert process.returncode == 130, output
    assert "Go on with: rlnas compare tiny.yaml" in output and "Traceback" not in output
    assert "everything finished is saved" in (cut / "runs" / "tiny" / "logs" / "digits.random.0.log").read_text()
    process = begin("compare", "tiny.yaml", folder=cut)
    wait_for(process, cut / "runs" / "tiny" / "digits.random.1" / "events.jsonl", '"kind": "evaluation"', count=1)
    os.kill(process.pid, signal.SIGKILL)  # its searches stop by themselves, and the next call waits for them
    process.communicate()
    done = rlnas("compare", "tiny.yaml", folder=cut, timeout=600)
    assert done.returncode == 0, done.stderr
    assert table(cut / "runs" / "tiny" / "searches.csv") == rows
    assert table(cut / "runs" / "tiny" / "curves.csv") == table(runs / "curves.csv")

    again = rlnas("compare", "tiny.yaml", folder=cut, timeout=600)
    assert again.returncode == 0 and "4 searches, 4 of them done" in again.stdout
    assert "[1/4]" not in again.stdout
    write(cut, settings=TINY["settings"] | {"evaluations": 12})
    refused = rlnas("compare", "tiny.yaml", folder=cut)
    assert refused.returncode == 2 and "was made under other settings (evaluations)" in refused.stderr


@pytest.mark.slow
def test_a_search_that_fails_is_named_and_the_rest_is_reported(tmp_path: Path) -> None:
    """A limit on latency that nothing meets: known only when networks have been measured."""
    hopeless = {"name": "random", "settings": {"reward": {"max_latency_ms": 1e-9}}}
    write(tmp_path, seeds=1, controllers={"random": {}, "hopeless": hopeless})
    done = rlnas("compare", "tiny.yaml", folder=tmp_path, timeout=600)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "1 of 2 searches failed; digits.hopeless.0: no network" in done.stderr
    assert "digits.hopeless.0 failed" in (tmp_path / "runs" / "tiny" / "report.html").read_text()


WRONG: list[tuple[dict[str, Any], list[str]]] = [
    ({"controllers": {"random": {}, "pppo": {}}}, ["pppo on digits", "unknown controller 'pppo'", "ppo"]),
    ({"controllers": {"ppo": {}}}, ["random search is missing"]),
    ({"controllers": {"random": {}, "ppo": {"lerning_rate": 1}}}, ["controllers.ppo", "did you mean 'learning_rate'"]),
    ({"controllers": {"random": {}, "ppo": {"arguments": {"gama": 1}}}}, ["ppo on digits", "gama", "gamma"]),
    ({"controllers": {"random": {}, "a/b": {"name": "ppo"}}}, ["'a/b'", "letters"]),
    ({"controllers": {"random": {}, "ppo": {"settings": {"evaluations": 4}}}}, ["the same for all controllers"]),
    ({"controllers": {"random": {}, "ppo": {"n_envs": 3}}}, ["evaluations=8 are not whole batches of n_envs=3"]),
    ({"controllers": {"random": {}, "ppo": "fast"}}, ["controllers.ppo must be a mapping"]),
    ({"controller": {}}, ["unknown key 'controller'", "did you mean 'controllers'"]),
    ({"tasks": {"other": {"task": {"name": "digit"}}}}, ["random on other", "'digit'", "digits"]),
    ({"tasks": {"other": {"evaluation": {"epoch": 3}}}}, ["random on other", "evaluation.epochs"]),
    ({"seeds": [0, 0]}, ["seeds", "twice"]),
    ({"seeds": "many"}, ["seeds='many'"]),
    ({"seeds": []}, ["seeds=[]"]),
    ({"jobs": 0}, ["jobs=0"]),
    ({"baseline": "rnd"}, ["'rnd'", "random"]),
    ({"baseline": "first"}, ["random search is missing"]),
    ({"settings": TINY["settings"] | {"reward": {}}}, ["jobs=2", "measured latency", "jobs: 1"]),
    ({"settings": TINY["settings"] | {"run": {"store": "a.sqlite"}}}, ["run.store"]),
    ({"settings": TINY["settings"] | {"evaluations": 0}}, ["evaluations=0"]),
    ({"name": "../up"}, ["'../up'"]),
]


@pytest.mark.parametrize(("changes", "words"), WRONG, ids=lambda value: str(value)[:40])
def test_what_a_person_gets_wrong_is_one_line(
    changes: dict[str, Any], words: list[str], inside: Inside, tmp_path: Path
) -> None:
    write(tmp_path, **changes)
    line = inside.fails("compare", "tiny.yaml")
    for word in words:
        assert word in line, line
    assert not (tmp_path / "runs").exists()


def test_files_that_are_none(inside: Inside, tmp_path: Path) -> None:
    write(tmp_path)
    assert "cannot read tiny.yam: No such file or directory; did you mean tiny.yaml?" in inside.fails(
        "compare", "tiny.yam"
    )
    (tmp_path / "broken.yaml").write_text("seeds: [1\n")
    assert "broken.yaml is not YAML" in inside.fails("compare", "broken.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    assert "a comparison is a mapping" in inside.fails("compare", "list.yaml")
    assert "--jobs" in inside("compare", "--help")
    assert "did you mean --jobs?" in inside.fails("compare", "tiny.yaml", "--job=3")
    assert "without --config: rlnas compare CONFIG" in inside.fails("compare", "--config", "tiny.yaml")
    assert "nothing to compare with yet" in inside("compare", "tiny.yaml", "--report-only")


def test_settings_of_a_search_come_from_four_places(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        tasks={"small": {"space": {"width": 4}}, "deep": {"space": {"stages": 2}, "evaluation": {"epochs": 1}}},
        controllers={"random": {}, "halving": {"name": "random", "settings": {"evaluation": {"halving": 2}}}},
        seeds=[3, 5],
    )
    comparison = read_comparison(path, over={"jobs": 7, "name": "other"})
    assert comparison.jobs == 7 and comparison.baseline == "random"
    cells = {cell.name: cell.settings for cell in comparison.cells}
    assert list(cells)[:4] == ["small.random.3", "small.halving.3", "deep.random.3", "deep.halving.3"]
    assert len(cells) == 8
    chosen = cells["deep.halving.5"]
    assert chosen["seed"] == 5 and chosen["controller"]["name"] == "random" and chosen["controller"]["n_envs"] == 4
    assert chosen["evaluation"]["halving"] == 2 and chosen["evaluation"]["epochs"] == 1
    assert (
        chosen["evaluation"]["start_epochs"] == 0.5
        and chosen["space"] | {"stages": 2, "max_steps": 2} == chosen["space"]
    )
    assert cells["small.random.3"]["space"]["width"] == 4 and cells["small.random.3"]["evaluation"]["halving"] is None
    assert chosen["run"]["name"] == "deep.halving.5" and chosen["run"]["root"] == "runs/other"
    assert not chosen["final"]["random_baseline"] and chosen["tracking"]["mode"] == "disabled"


@pytest.mark.parametrize("path", sorted((REPOSITORY / "configs" / "compare").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_comparison_can_be_read(path: Path) -> None:
    comparison = read_comparison(path)
    assert len(comparison.cells) >= 16
    assert comparison.baseline in {cell.controller for cell in comparison.cells}


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"{tmp_path.name} is a folder; name a file$"):
        read_comparison(tmp_path)
    write(tmp_path)
    with pytest.raises(ConfigError, match=f"{tmp_path.name} is a folder; name a file in it: tiny.yaml$"):
        read_comparison(tmp_path)
