"""The scripts under docs/examples run as they stand, shortened, with warnings as errors."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.cli.running import REPOSITORY, environment
from tests.processes import python_file, run_apart

EXAMPLES = REPOSITORY / "docs" / "examples"


def run(folder: Path, script: str, *arguments: str) -> str:
    """What a script prints."""
    done = run_apart(python_file, EXAMPLES / script, arguments, folder=folder, variables=environment(folder))
    assert done.returncode == 0, done.stderr
    return done.stdout


SCRIPTS = [
    ("plain_ppo.py", ("--episodes=8", "--batch=4"), "episodes    8"),
    ("sb3_maskable_ppo.py", ("--timesteps=64", "--n-steps=32", "--epochs=0.3"), "operators:"),
    ("linear_reward.py", ("--episodes=50",), "100% cost: {'depth': 2, 'width': 16, 'kernel': 3}"),
    ("own_code.py", ("--workers=1",), "edits: own_operator:SwapActivation(relu1, 1), own_operator:SwapActivation("),
    ("vector_envs.py", ("--mode=async", "--context=spawn", "--num-envs=1", "--steps=4"), "AsyncVectorEnv: 4 steps"),
]
"""Scripts, shortened, and something that they print."""
SLOW = [
    ("vector_envs.py", ("--mode=async", "--context=fork"), "AsyncVectorEnv: 16 steps"),
    ("vector_envs.py", ("--mode=sync",), "SyncVectorEnv: 16 steps"),
    ("vector_envs.py", ("--mode=lockstep",), "EpisodeVectorEnv: 16 steps"),
]


@pytest.mark.parametrize(
    ("script", "arguments", "expected"), [*SCRIPTS, *(pytest.param(*row, marks=pytest.mark.slow) for row in SLOW)]
)
def test_script_runs(script: str, arguments: tuple[str, ...], expected: str, tmp_path: Path) -> None:
    assert expected in run(tmp_path, script, *arguments)


@pytest.mark.parametrize("script", ["sb3_ppo.py", "sb3_dqn.py"])
def test_agents_that_know_no_masks_learn_what_is_legal(script: str, tmp_path: Path) -> None:
    """By chance 7 of 10 actions are illegal; the share of the first fifth of all actions at least halves."""
    printed = run(tmp_path, script)
    found = re.search(r"illegal actions: (\d+) % of the first fifth, (\d+) % of the last", printed)
    assert found, printed
    first, last = map(int, found.groups())
    assert first > 50 and last <= first / 2
    assert re.search(r"score 0\.\d+, choices \{'depth'", printed)


def test_every_script_is_run_and_told_of() -> None:
    tried = {script for script, _, _ in SCRIPTS} | {"sb3_ppo.py", "sb3_dqn.py"}
    modules = {"own_evaluator.py", "own_operator.py", "own_space.py"}  # which tests/envs/test_reuse_own.py tries
    assert {path.name for path in EXAMPLES.glob("*.py")} == tried | modules
    page = (REPOSITORY / "docs" / "reuse.md").read_text()
    assert not [path.name for path in EXAMPLES.glob("*.py") if f"](examples/{path.name})" not in page]


def test_own_code_takes_twenty_lines() -> None:
    """A class of one's own, without the lines between its methods, its documentation and what is imported."""
    for name in ("own_evaluator.py", "own_operator.py", "own_space.py"):
        source = (EXAMPLES / name).read_text()
        (made,) = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
        lines = [line for line in ast.get_source_segment(source, made).splitlines()[2:] if line.strip()]
        assert len(lines) <= 20, f"{name}: {len(lines)}"


def test_plain_script_imports_nothing_of_ours() -> None:
    lines = (EXAMPLES / "plain_ppo.py").read_text().splitlines()
    assert not [line for line in lines if line.startswith(("import rlnas", "from rlnas"))]
