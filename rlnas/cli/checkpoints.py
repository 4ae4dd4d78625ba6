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


def save_checkpoint(folder: Path, controller: Controller, extra: dict[str, Any], *, owner: str) -> None:
    """Write a checkpoint and drop all but the last two.

    Args:
        owner: Fingerprint of the run.

    Raises:
        StoreError: If it cannot be written.
    """
    save(controller, folder / f"{controller.num_timesteps:09d}", extra=extra | {"owner": owner})
    for old in _all(folder)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def load_checkpoint(folder: Path, env: VecEnv, *, owner: str) -> tuple[Controller, dict[str, Any], list[str]] | None:
    """The last checkpoint that can be used: (controller, extra, why later ones were passed over); None without any.

    Args:
        owner: Fingerprint of the run; a checkpoint of another is not used.

    Raises:
        StoreError: If there are checkpoints but none can be used.
    """
    problems: list[str] = []
    for path in reversed(_all(folder)):
        try:
            extra = _own_extra(path, owner)
            return load(path, env), extra, problems
        except StoreError as error:
            problems.append(str(error))
    if problems:
        raise StoreError(
            f"no checkpoint of this run can be used: {'; '.join(problems)}. "
            f"To play this search again, remove {folder}; what the store holds is not evaluated again"
        )
    return None


def last_extra(folder: Path, *, owner: str) -> dict[str, Any] | None:
    """What the last checkpoint that can be used was saved with; None if there is none."""
    for path in reversed(_all(folder)):
        try:
            return _own_extra(path, owner)
        except StoreError:
            continue
    return None


def _own_extra(path: Path, owner: str) -> dict[str, Any]:
    """What a checkpoint was saved with.

    Raises:
        StoreError: If it is damaged, or another run's.
    """
    extra = read_extra(path)
    if extra.get("owner", owner) != owner:  # those of the first version did not say
        raise StoreError(f"the checkpoint {path} is another run's, or this run's settings were changed since")
    return extra


def _all(folder: Path) -> list[Path]:
    """Checkpoints, oldest first; a folder without its file is one that was being written when the run was killed."""
    return sorted(path for path in folder.glob("[0-9]*") if any(path.glob("*.safetensors"))) if folder.exists() else []
