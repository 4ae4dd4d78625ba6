"""Every configuration runs, shortened; and a damaged checkpoint is passed over for the one before it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from rlnas.cli.tabular import TABLES
from rlnas.errors import TaskError
from rlnas.tasks import load_task
from tests.cli.running import QUICK, REPOSITORY, rlnas
from tests.cli.test_train import DETERMINISTIC, evaluations, same_policy
from tests.spaces.test_nas_bench_201 import DATA


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted((REPOSITORY / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_config_runs(path: Path, tmp_path: Path) -> None:
    settings = yaml.safe_load(path.read_text())
    looked_up = settings["task"]["name"] in TABLES
    quick = ("--tracking.mode=disabled", f"--task.path={DATA}") if looked_up else QUICK
    if looked_up and not DATA.is_file():
        pytest.skip("needs the published data")
    try:
        if not looked_up:
            load_task(settings["task"]["name"], **settings["task"].get("options", {}))
    except TaskError as error:
        pytest.skip(str(error))
    done = rlnas("train", "--config", str(path), *quick, "--evaluations=8", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "runs" / f"{path.stem}-001"
    assert len(evaluations(run)) >= 8 and (run / "best" / ("metrics.json" if looked_up else "model.py")).exists()


def test_damaged_checkpoint_is_passed_over(tmp_path: Path) -> None:
    words = (*DETERMINISTIC, "--evaluation.workers=0", "--final.random_baseline=False")
    hurt, whole = tmp_path / "runs" / "hurt", tmp_path / "whole"
    assert rlnas("train", *words, "--run.name=hurt", folder=tmp_path).returncode == 0
    shutil.copytree(hurt, whole)
    first, last = sorted((hurt / "checkpoints" / "controller").iterdir())
    file = last / "controller.safetensors"
    file.write_bytes(file.read_bytes()[:-40])
    done = rlnas("resume", "runs/hurt", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "passed over a checkpoint" in done.stdout
    assert evaluations(hurt) == evaluations(whole) and same_policy(hurt, whole)
    for path in (first, last):
        (path / "controller.safetensors").write_bytes(b"nothing")
    done = rlnas("resume", "runs/hurt", folder=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "no checkpoint of this run can be used" in done.stderr
