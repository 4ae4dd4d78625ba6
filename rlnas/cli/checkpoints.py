"""Checkpoints of a search: the controller and how far the run's log had come, numbered, the last two kept."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from stable_baselines3.common.vec_env import VecEnv

from rlnas.controllers import Controller
from rlnas.controllers.checkpoint import load, read_extra, save
from rlnas.errors import StoreError

KEPT = 2


def save_checkpoint(folder: Path, controller: Controller, extra: dict[str, Any]) -> None:
    """Write a checkpoint and drop all but the last two.

    Raises:
        StoreError: If it cannot be written.
    """
    save(controller, folder / f"{controller.num_timesteps:09d}", extra=extra)
    for old in _all(folder)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def load_checkpoint(folder: Path, env: VecEnv) -> tuple[Controller, dict[str, Any], list[str]] | None:
    """The last whole checkpoint: (controller, extra, why later ones were passed over); None if there is none.

    Raises:
        StoreError: If there are checkpoints but all are damaged.
    """
    problems: list[str] = []
    for path in reversed(_all(folder)):
        try:
            return load(path, env), read_extra(path), problems
        except StoreError as error:
            problems.append(str(error))
    if problems:
        raise StoreError(f"no checkpoint of this run can be used: {'; '.join(problems)}")
    return None


def last_extra(folder: Path) -> dict[str, Any] | None:
    """What the last whole checkpoint was saved with; None if there is none."""
    for path in reversed(_all(folder)):
        try:
            return read_extra(path)
        except StoreError:
            continue
    return None


def _all(folder: Path) -> list[Path]:
    """Checkpoints, oldest first; a folder without its file is one that was being written when the run was killed."""
    return sorted(path for path in folder.glob("[0-9]*") if any(path.glob("*.safetensors"))) if folder.exists() else []
