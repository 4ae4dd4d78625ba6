"""Sweeps, with the real ``wandb sweep`` and ``wandb agent`` against a loopback stub."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from rlnas.cli.config import SearchSettings
from rlnas.tracking import flatten
from tests.stub_wandb import (
    ENTITY,
    ROOT,
    SWEEP_ID,
    StubServer,
    read_config,
    read_history,
    read_run,
    run_files,
    wandb_environment,
)

KEY = "0123456789abcdef0123456789abcdef01234567"
SWEEPS = sorted((ROOT / "configs" / "sweeps").glob("*.yaml"))


def sweep(config: Path, *, stub: StubServer, folder: Path) -> str:
    """Create a sweep and run an agent to its end, from the repository's root; what the agent printed."""
    env = wandb_environment(folder, WANDB_BASE_URL=stub.url, WANDB_API_KEY=KEY, WANDB_MODE="offline")
    stand_in(folder / "bin", "train-controller", '-m rlnas train "$@"')
    env["PATH"] = f"{folder / 'bin'}:{env['PATH']}"
    littered = (ROOT / "wandb").exists()
    created = wandb("sweep", str(config), env=env)
    name = re.search(r"wandb agent (\S+)", created)
    assert name and name[1] == f"{ENTITY}/{yaml.safe_load(config.read_text())['project']}/{SWEEP_ID}", created
    printed = wandb("agent", name[1], env=env)
    assert stub.problems == []
    assert {"UpsertSweep", "SweepWithRuns", "CreateAgent", "Heartbeat"} <= set(stub.operations)
    assert littered or not (ROOT / "wandb").exists(), "the repository's root must stay as it is"
    return printed


def wandb(*arguments: str, env: dict[str, str]) -> str:
    """Run W&B's own command; what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "wandb", *arguments],
        cwd=ROOT,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=180,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def stand_in(folder: Path, name: str, arguments: str) -> Path:
    """A command that starts this Python with some arguments, and leaves its exit status beside the folder."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f'#!/bin/sh\n"{sys.executable}" {arguments}\nstatus=$?\necho $status >> "{folder}/status"\n'
                    "exit $status\n")  # fmt: skip
    path.chmod(0o755)
    return path


def statuses(folder: Path) -> list[str]:
    return (folder / "bin" / "status").read_text().split()


PROGRAM = """
import json, os, sys
from pathlib import Path
from rlnas.tracking import make_tracker, resolve_mode
folder = Path(sys.argv[1])
folder.joinpath("arguments").open("a").write(json.dumps(sys.argv[2:]) + "\\n")
run = folder / "runs" / os.environ["WANDB_RUN_ID"]
run.mkdir(parents=True)
mode = resolve_mode(None, os.environ)
tracker = make_tracker(run, mode=mode, project="ours", config={"a": {"b": 0.25}, "c": "default"})
tracker.log({"best/reward": 1.25, "mode": mode}, step=1)
tracker.close()
"""


@pytest.mark.slow
def test_agent_and_tracker(tmp_path: Path) -> None:
    """The forms in which arguments arrive, and that a W&B run knows its sweep."""
    (tmp_path / "program.py").write_text(PROGRAM)
    stand_in(tmp_path / "bin", "program", f'"{tmp_path}/program.py" "{tmp_path}" "$@"')
    config = {
        "program": "program",
        "project": "sweeping",
        "command": ["program", "--config", "some.yaml", "${args}"],
        "method": "random",
        "parameters": {"a.b": {"min": 0.5, "max": 1.0}, "flag": {"value": True}, "off": {"values": [False]}},
    }
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(config))
    others = {"none": None, "lst": [1, 2], "text": "two words", "small": 1e-5, "n": 3, "map": {"k": "v"}}
    with StubServer(runs=[others]) as stub:
        sweep(tmp_path / "sweep.yaml", stub=stub, folder=tmp_path)

    assert statuses(tmp_path) == ["0"]
    (arguments,) = [json.loads(line) for line in (tmp_path / "arguments").read_text().splitlines()]
    assert arguments == [
        *("--config", "some.yaml"),
        *("--a.b=0.5", "--flag=True", "--off=False"),
        *("--none=None", "--lst=[1, 2]", "--text=two words", "--small=1e-05", "--n=3", "--map={'k': 'v'}"),
    ]
    (path,) = run_files(tmp_path / "runs" / stub.run_id(0))
    record = read_run(path)
    assert (record.run_id, record.sweep_id, record.entity) == (stub.run_id(0), SWEEP_ID, ENTITY)
    assert record.project == "sweeping"  # the sweep's, not the tracker's
    settings = read_config(path)
    assert settings["a.b"] == 0.5 and settings["flag"] is True and settings["c"] == "default"
    assert "a" not in settings, "swept values must not appear twice"
    (row,) = read_history(path)
    assert (row["best/reward"], row["search/evaluations"], row["mode"]) == (1.25, 1, "offline")


SHORT: dict[str, Any] = {
    "evaluations": 4,
    "controller.n_envs": 2,
    "space.width": 4,
    "space.max_steps": 2,
    "evaluation.epochs": 1,
    "evaluation.start_epochs": 1,
    "evaluation.start_evaluations": 5,
    "evaluation.workers": 0,
    "reward.cost": "macs",
    "reward.target_ms": None,
    "final.candidates": 1,
    "final.seeds": 1,
    "final.epochs": 1,
}


@pytest.mark.slow
@pytest.mark.parametrize("config", SWEEPS, ids=lambda path: path.stem)
def test_sweep_of_searches(tmp_path: Path, config: Path) -> None:
    """Each sweep in configs/ with the real program, shortened."""
    root = tmp_path / "runs"
    runs = [SHORT | {"run.root": str(root), "run.name": "one", "controller.ent_coef": 0.0625}]
    with StubServer(runs=runs) as stub:
        printed = sweep(config, stub=stub, folder=tmp_path)

    assert statuses(tmp_path) == ["0"], printed
    run = root / "one"
    settings = flatten(yaml.safe_load((run / "config.yaml").read_text()))
    swept = stub.arguments(0)
    assert swept["controller.ent_coef"] == 0.0625 and len(swept) > len(SHORT)
    assert {name: settings[name] for name in swept} == swept
    (path,) = run_files(run)
    assert read_run(path).sweep_id == SWEEP_ID
    reported = read_config(path)
    assert {name: reported[name] for name in swept} == swept
    rewards = [row["best/reward"] for row in read_history(path) if "best/reward" in row]
    assert rewards and rewards == sorted(rewards)
    evaluations = [row["search/evaluations"] for row in read_history(path) if "eval/status" in row]
    assert evaluations[-1] == SHORT["evaluations"]


@pytest.mark.parametrize("config", SWEEPS, ids=lambda path: path.stem)
def test_sweep_configuration(config: Path) -> None:
    """Every name in a sweep is a setting, its values have the setting's type, and its program's config exists."""
    sweep_config = yaml.safe_load(config.read_text())
    assert sweep_config["metric"] == {"name": "best/reward", "goal": "maximize"}
    command = sweep_config["command"]
    assert command[0] == sweep_config["program"] == "train-controller" and command[-1] == "${args}"
    assert (ROOT / command[command.index("--config") + 1]).is_file()
    settings = flatten(dataclasses.asdict(SearchSettings()))
    for name, specification in sweep_config["parameters"].items():
        assert name in settings, name
        values = [specification.get(key) for key in ("value", "min", "max")] + specification.get("values", [])
        for value in values:
            default = settings[name]
            assert value is None or default is None or type(value) is type(default), (name, value)
    assert not [name for name in sweep_config["parameters"] if name.startswith("reward.")], "rewards must be comparable"
