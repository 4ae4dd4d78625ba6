"""A search that begins with the policy of another run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.cli.running import rlnas
from tests.cli.test_train import DETERMINISTIC, policy

SHORT = (
    *DETERMINISTIC,
    "--evaluations=4",
    "--evaluation.workers=0",
    "--final.random_baseline=False",
    "--final.candidates=1",
    "--final.seeds=1",
    "--final.epochs=0.1",
    "--space.max_steps=3",
)


@pytest.mark.slow
def test_from_one_limit_to_another(tmp_path: Path) -> None:
    """With next to no learning rate, the second run ends with the policy of the first, whose seed was another."""
    done = rlnas("train", *SHORT, "--run.name=first", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    other = ("--controller.learning_rate=1e-12", "--space.max_macs=2x", "--space.max_nodes=60", "--seed=1")
    done = rlnas("train", *SHORT, *other, "--controller.init_from=runs/first", "--run.name=second", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    first, second = (policy(tmp_path / "runs" / name) for name in ("first", "second"))
    names = [name for name in first if name.startswith("policy.")]
    assert names and all(torch.allclose(first[name], second[name], atol=1e-7) for name in names)
    moments = [name for name in first if name.endswith(".exp_avg")]
    assert moments and not any(torch.equal(first[name], second[name]) for name in moments)
    assert str(tmp_path / "runs" / "first") in (tmp_path / "runs" / "second" / "config.yaml").read_text()

    done = rlnas("train", "--controller.init_from=runs/first", "--space.variants=[widen 2, deepen 3]", folder=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "and here are 2" in done.stderr and "init_part=encoder" in done.stderr
