"""The run directory: everything a run leaves behind, and what it resumes from. Nothing in it runs code when loaded."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from rlnas.errors import RunError
from rlnas.evaluation import Store
from rlnas.evaluation.records import COLUMNS

CONFIG_FILE = "config.yaml"

FREE: Final = {
    "": ("evaluations", "progress", "tracking", "run", "final"),
    "evaluation": ("workers", "backend", "address", "time_limit_s", "memory_limit_mb", "retries"),
}
"""Settings that may change between a run and its continuation; by group."""

SEARCH_COLUMNS: Final = {
    "search": "TEXT",
    "evaluation": "INTEGER",
    "reward": "REAL",
    "cached": "INTEGER",
    "operators": "TEXT",
}
"""What the log of a run knows of an evaluation beside the store's columns."""

ROW_COLUMNS: Final = SEARCH_COLUMNS | COLUMNS
"""Columns of `evaluation_rows` with their SQLite types."""


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


def fingerprint(config: dict[str, Any]) -> str:
    """Hash of the settings that decide what a search does: a checkpoint under others is another run's."""
    fixed = {k: v for k, v in config.items() if k not in FREE[""]}
    fixed["evaluation"] = {k: v for k, v in fixed.get("evaluation", {}).items() if k not in FREE["evaluation"]}
    return hashlib.blake2b(json.dumps(fixed, sort_keys=True, default=str).encode(), digest_size=12).hexdigest()


def store_path(run: RunDirectory, config: dict[str, Any]) -> Path:
    """The store of a run, which may lie elsewhere."""
    given = (config.get("run") or {}).get("store")
    return run.store if given is None else Path(given)


def read_evaluations(events: Path, search: str | None = None) -> list[dict[str, Any]]:
    """The evaluations in ``events.jsonl``, each once, in order; also while the run writes it.

    Args:
        search: Only those of one search.

    Raises:
        RunError: If the file cannot be read.
    """
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for values in _events(events, "evaluation"):
        if search is None or values["search"] == search:
            found[values["search"], values["evaluation"]] = values  # played again: the later one counts
    searches = list(dict.fromkeys(key[0] for key in found))
    return [found[key] for key in sorted(found, key=lambda key: (searches.index(key[0]), key[1]))]


def read_logs(events: Path) -> list[tuple[int, dict[str, Any]]]:
    """The numbers in ``events.jsonl``, in order, each with its step.

    Raises:
        RunError: If the file cannot be read.
    """
    return [(entry["step"], entry["values"]) for entry in _entries(events, "log")]


def evaluation_rows(run: RunDirectory, config: dict[str, Any]) -> list[dict[str, Any]]:
    """All evaluations of a run under the names of `ROW_COLUMNS`; also while it goes on.

    First those that the searches have their rewards for, in order; then what else the run had evaluated: what a search
    waits for at present, the start network, the winners again.

    Raises:
        RunError: If the log cannot be read.
        StoreError: If the store cannot be read.
    """
    logged = read_evaluations(run.events) if run.events.exists() else []
    path = store_path(run, config)
    stored: dict[str, dict[str, Any]] = {}
    named = {event["cache_key"] for event in logged}
    if path.exists():
        with Store(path, read_only=True) as store:
            for record in store.rows():
                if record.cache_key in named or record.run in (None, run.path.name):
                    stored[record.cache_key] = record.to_row()
    rows = []
    for event in logged:
        known = stored.get(event["cache_key"], {})
        row = {name: event.get(name, known.get(name)) for name in SEARCH_COLUMNS}
        row |= {name: known.get(name, event.get(name)) for name in COLUMNS}
        rows.append(row | {"operators": ", ".join(event["operators"]), "edits": json.dumps(event["edits"])})
        rows[-1]["status"] = event["status"]  # which also says if it is over a limit
        rows[-1]["cached"] = int(event["cached"])
    empty = dict.fromkeys(SEARCH_COLUMNS)
    return rows + [empty | row for key, row in stored.items() if key not in named]


def _events(path: Path, kind: str) -> Iterator[dict[str, Any]]:
    return (entry["values"] for entry in _entries(path, kind))


def _entries(path: Path, kind: str) -> Iterator[dict[str, Any]]:
    try:
        lines = path.read_text().split("\n")
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from None
    for number, line in enumerate(lines[:-1], 1):  # what is behind the last line break is being written
        try:
            entry = json.loads(line)
        except ValueError:
            raise RunError(f"{path} is damaged: line {number} is not JSON") from None
        if entry["kind"] == kind:
            yield entry


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
