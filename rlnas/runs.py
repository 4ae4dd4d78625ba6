"""The run directory: everything a run leaves behind, and what it resumes from. Nothing in it runs code when loaded."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import yaml

from rlnas.errors import RunError

CONFIG_FILE = "config.yaml"


class RunDirectory:
    """Paths of one run.

    Attributes:
        path: The directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / CONFIG_FILE
        self.store = path / "evaluations.sqlite"
        self.events = path / "events.jsonl"
        self.checkpoints = path / "checkpoints"
        self.starts = path / "checkpoints" / "starts"
        self.start = path / "start"
        self.best = path / "best"
        self.pareto_csv = path / "pareto.csv"
        self.pareto_png = path / "pareto.png"
        self.report = path / "report.md"

    @classmethod
    def create(cls, root: str | Path, name: str | None, *, stem: str, config: dict[str, Any]) -> RunDirectory:
        """Make a new directory and write the configuration into it.

        Args:
            name: Name of the directory; without it ``stem`` and the next free number.

        Raises:
            RunError: If the directory exists already or cannot be written.
        """
        try:
            Path(root).mkdir(parents=True, exist_ok=True)
            path = _claim(Path(root), name, stem)
            run = cls(path)
            run.checkpoints.mkdir()
            run.config.write_text(yaml.safe_dump(config, sort_keys=False))
        except OSError as error:
            raise RunError(
                f"cannot write the run directory under {root}: {error.strerror} ({error.filename})"
            ) from None
        return run

    @classmethod
    def open(cls, path: str | Path) -> tuple[RunDirectory, dict[str, Any]]:
        """An existing directory and its configuration.

        Raises:
            RunError: If there is none, or its configuration cannot be read.
        """
        run = cls(Path(path))
        try:
            config = yaml.safe_load(run.config.read_text())
        except OSError as error:
            raise RunError(f"{path} is no run directory: cannot read {run.config} ({error.strerror})") from None
        except yaml.YAMLError:
            raise RunError(f"{run.config} is damaged: it is not YAML") from None
        if not isinstance(config, dict):
            raise RunError(f"{run.config} is damaged: it holds no settings")
        return run, config

    def write_json(self, path: Path, data: Any) -> None:
        """Replace a JSON file as a whole."""
        write_text(path, json.dumps(data, indent=1) + "\n")


def _claim(root: Path, name: str | None, stem: str) -> Path:
    if name is not None:
        if not name or "/" in name or name.startswith("."):
            raise RunError(f"run.name={name!r} is not usable as the name of a directory")
        path = root / name
        try:
            path.mkdir()
        except FileExistsError:
            raise RunError(
                f"the run directory {path} exists already and is never overwritten; "
                f"choose another --run.name, or continue it with: rlnas resume {path}"
            ) from None
        return path
    for number in range(1, 1_000_000):
        path = root / f"{stem}-{number:03d}"
        try:
            path.mkdir()
            return path
        except FileExistsError:
            continue
    raise RunError(f"{root} holds too many runs of the name {stem}; give --run.name")


def write_text(path: Path, text: str) -> None:
    """Replace a text file as a whole: a reader sees the old one or the new one.

    Raises:
        RunError: If it cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}") from None
