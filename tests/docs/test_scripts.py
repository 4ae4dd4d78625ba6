"""The scripts under docs/examples run as they stand, shortened, with warnings as errors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.running import REPOSITORY, environment

EXAMPLES = REPOSITORY / "docs" / "examples"


@pytest.mark.parametrize(
    ("script", "arguments", "expected"),
    [
        ("sb3_ppo.py", ("--timesteps=64", "--n-steps=32"), "operators:"),
        ("plain_ppo.py", ("--episodes=20", "--batch=10"), "episodes   20"),
        ("own_code.py", ("--workers=1",), "edits: own_operator:SwapActivation(relu1, 1), own_operator:SwapActivation("),
    ],
)
def test_script_runs(script: str, arguments: tuple[str, ...], expected: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / script), *arguments],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout


def test_plain_script_imports_nothing_of_ours() -> None:
    lines = (EXAMPLES / "plain_ppo.py").read_text().splitlines()
    assert not [line for line in lines if line.startswith(("import rlnas", "from rlnas"))]
