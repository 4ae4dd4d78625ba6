"""Every configuration runs, shortened."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from rlnas.cli.tabular import TABLES
from rlnas.errors import TaskError
from rlnas.tasks import load_task
from tests.cli.running import QUICK, REPOSITORY, TIMED, rlnas
from tests.cli.test_train import evaluations
from tests.spaces.test_nas_bench_201 import DATA


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted((REPOSITORY / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_config_runs(path: Path, tmp_path: Path) -> None:
    settings = yaml.safe_load(path.read_text())
    looked_up = settings["task"]["name"] in TABLES
    quick = ("--tracking.mode=disabled", f"--task.path={DATA}") if looked_up else (*QUICK, *TIMED)
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
