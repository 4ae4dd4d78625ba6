"""What the packaging promises: nothing left out, nothing heavy loaded, layers kept, pins that fit."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
CODE = ("rlnas", "envs", "controllers", "tests", "benchmarks", "docs")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def run_python(code: str, *, cwd: Path = ROOT, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env=os.environ | env, capture_output=True, text=True, timeout=120
    )


def test_every_folder_with_code_is_a_listed_package() -> None:
    found = set()
    for folder, subfolders, files in os.walk(ROOT / "rlnas", followlinks=True):
        subfolders[:] = [name for name in subfolders if name != "__pycache__"]
        if any(name.endswith(".py") for name in files):
            assert "__init__.py" in files, f"{folder} holds code but no __init__.py"
            found.add(".".join(Path(folder).relative_to(ROOT).parts))
    assert found == set(PROJECT["tool"]["setuptools"]["packages"])


@pytest.mark.parametrize("name", ["envs", "controllers"])
def test_linked_packages_are_relative_links_and_mapped_alike(name: str) -> None:
    link = ROOT / "rlnas" / name
    assert link.is_symlink()
    assert os.readlink(link) == f"../{name}"
    assert PROJECT["tool"]["setuptools"]["package-dir"][f"rlnas.{name}"] == name


def test_importing_rlnas_loads_nothing_heavy() -> None:
    heavy = ("torch", "stable_baselines3", "wandb", "sklearn", "matplotlib", "jsonargparse", "ray", "onnx")
    done = run_python(f"import rlnas, sys; print([name for name in {heavy} if name in sys.modules])")
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_nothing_imports_the_linked_folders_by_their_own_names() -> None:
    wrong = []
    for file in (file for folder in CODE for file in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            wrong += [f"{file}:{name}" for name in names if name.split(".")[0] in ("envs", "controllers")]
    assert not wrong


def test_shapes_are_checked_wherever_they_are_declared() -> None:
    [option] = [o for o in PROJECT["tool"]["pytest"]["ini_options"]["addopts"] if o.startswith("--jaxtyping")]
    *checked, _ = option.split("=")[1].split(",")
    declaring = set()
    for folder, package in (("rlnas", "rlnas"), ("envs", "rlnas.envs"), ("controllers", "rlnas.controllers")):
        for file in (ROOT / folder).rglob("*.py"):
            if re.search(r"^from jaxtyping import", file.read_text(encoding="utf-8"), flags=re.MULTILINE):
                declaring.add(".".join((package, *file.relative_to(ROOT / folder).with_suffix("").parts)))
    assert set(checked) == declaring


def test_console_scripts_exist() -> None:
    for target in PROJECT["project"]["scripts"].values():
        module, function = target.split(":")
        done = run_python(f"import {module} as m; assert callable(m.{function})")
        assert done.returncode == 0, done.stderr


def test_version_is_said_once_and_the_same() -> None:
    import rlnas

    assert rlnas.__version__ == PROJECT["project"]["version"]


def test_every_requirement_is_pinned_within_its_range() -> None:
    pins = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            assert re.fullmatch(r"[\w.-]+==[\w.]+", line), f"not a plain pin (no local version either): {line}"
            name, version = line.split("==")
            pins[canonicalize_name(name)] = version
    wanted = [*PROJECT["project"]["dependencies"]]
    for extra in PROJECT["project"]["optional-dependencies"].values():
        wanted += [line for line in extra if not line.startswith("rlnas[")]
    for requirement in map(Requirement, wanted):
        pin = pins.get(canonicalize_name(requirement.name))
        assert pin is not None, f"{requirement.name} is not in constraints.txt"
        assert requirement.specifier.contains(pin), f"{requirement} does not allow the pin {pin}"


WRONG_IMPORTS = {
    "envs/wrong.py": ("import rlnas.controllers", "rlnas.envs.wrong -> rlnas.controllers"),
    "controllers/policies/wrong.py": (
        "from rlnas.envs import MorphEnv",
        "rlnas.controllers.policies.wrong -> rlnas.envs",
    ),
    "rlnas/graph/wrong.py": ("import torch", "rlnas.graph.wrong -> torch"),
    "rlnas/report/wrong.py": ("import gymnasium", "rlnas.report.wrong -> gymnasium"),
    "rlnas/tasks/wrong.py": ("import rlnas.evaluation", "rlnas.tasks.wrong -> rlnas.evaluation"),
    "rlnas/cli/wrong.py": ("import wandb", "rlnas.cli.wrong -> wandb"),
    "rlnas/newcomer.py": ("", "newcomer"),
}


def lint_imports(tree: Path) -> tuple[int, str]:
    """Run import-linter on a tree; whitespace, by which it wraps its lines, is made single."""
    done = run_python(
        "from importlinter.cli import lint_imports_command as run; run(['--no-cache', '--no-logo'])",
        cwd=tree,
        PYTHONPATH=str(tree),
        COLUMNS="300",
    )
    return done.returncode, re.sub(r"\s+", " ", done.stdout + done.stderr)


def test_import_layers_hold_and_see_through_the_links(tmp_path: Path) -> None:
    for name in ("rlnas", "envs", "controllers"):
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    status, output = lint_imports(tmp_path)
    assert status == 0, output
    for name, (code, _) in WRONG_IMPORTS.items():
        (tmp_path / name).write_text(code)
    status, output = lint_imports(tmp_path)
    assert status == 1
    assert [name for name, (_, message) in WRONG_IMPORTS.items() if message not in output] == [], output


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_lists_its_targets_and_names_a_missing_python(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    listed = subprocess.run(["make"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    for target in ("setup", "train", "test", "check", "bench"):
        assert re.search(rf"^  make {target} ", listed.stdout, flags=re.MULTILINE), listed.stdout
    for python, complaint in (("/nonexistent/python", "/nonexistent/python is not"), ("", "there is none on the PATH")):
        refused = subprocess.run(
            ["make", "setup", f"PYTHON={python}"], cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert refused.returncode == 2
        assert f"rlnas needs Python 3.11 or newer, and {complaint}: install it" in refused.stderr
        assert not (tmp_path / ".venv").exists()
