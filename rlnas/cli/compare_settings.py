"""What a comparison consists of: controllers x seeds x tasks, from one YAML file."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

import yaml

from rlnas.cli.arguments import read_settings
from rlnas.cli.config import ControllerSettings, SearchSettings
from rlnas.cli.parse import check_ranges, complete_settings
from rlnas.errors import ConfigError

KEYS: Final = ("controllers", "seeds", "tasks", "settings", "baseline", "jobs", "name")
QUIET: Final = {"progress": False, "final": {"random_baseline": False}, "tracking": {"mode": "disabled"}}
"""Settings of every search, unless the file says otherwise."""
NOT_A_CONTROLLERS: Final = ("evaluations", "count", "seed", "run", "task", "controller")
"""Settings that a controller cannot have of its own: all would not be compared at the same task and evaluations."""


@dataclass(frozen=True)
class Cell:
    """One search.

    Attributes:
        task: Label of the task.
        controller: Label of the controller.
        seed: Of controller and evaluations.
        settings: All settings of the search, as plain data.
    """

    task: str
    controller: str
    seed: int
    settings: dict[str, Any] = field(compare=False)

    @property
    def name(self) -> str:
        """Name of its run directory."""
        return f"{self.task}.{self.controller}.{self.seed}"


@dataclass(frozen=True)
class Comparison:
    """A whole comparison.

    Attributes:
        name: Of its folder.
        root: Where that lies.
        baseline: Label of the controller that is random search.
        jobs: Searches at the same time.
        cells: All searches, those of the first seed first.
        plain: The file's content.
    """

    name: str
    root: Path
    baseline: str
    jobs: int
    cells: tuple[Cell, ...]
    plain: dict[str, Any]


def read_comparison(path: str | Path, *, over: Mapping[str, Any] | None = None) -> Comparison:
    """Read a comparison's YAML file and put the settings of all searches together.

    Args:
        over: Keys in the place of the file's.

    Raises:
        ConfigError: If the file cannot be read, or something in it cannot be.
    """
    try:
        plain = yaml.safe_load(read_settings(path))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from None
    try:
        return _comparison(plain | dict(over or {}) if isinstance(plain, dict) else plain, stem=Path(path).stem)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _comparison(plain: Any, *, stem: str) -> Comparison:
    if not isinstance(plain, dict):
        raise ConfigError(f"a comparison is a mapping with the keys {', '.join(KEYS)}")
    for key in plain:
        if key not in KEYS:
            raise ConfigError(_unknown(str(key), KEYS, "key"))
    base = _mapping(plain, "settings")
    controllers = {
        label: dict(_entry(entry, f"controllers.{label}")) for label, entry in _mapping(plain, "controllers").items()
    }
    tasks = {label: dict(_entry(entry, f"tasks.{label}")) for label, entry in _mapping(plain, "tasks").items()}
    if not tasks:
        tasks = {str((base.get("task") or {}).get("name", SearchSettings().task.name)): {}}
    for label in (*controllers, *tasks):
        if not re.fullmatch(r"[\w-]+", str(label)):
            raise ConfigError(f"the label {label!r} becomes part of a folder's name: only letters, digits, - and _")
    baseline = _baseline(plain, controllers)
    seeds, jobs = _seeds(plain.get("seeds", 10)), plain.get("jobs", 1)
    if not _whole(jobs) or jobs < 1:
        raise ConfigError(f"jobs={jobs!r} must be a whole number of at least 1")
    run = base.get("run") or {}
    name = plain.get("name") or stem
    if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+", name) or name.startswith("."):
        raise ConfigError(f"name={name!r} is not usable as the name of a folder")
    root = Path(str(run.get("root", SearchSettings().run.root)))
    first = [  # to check settings takes long, and seeds change little about them
        _cell(base, task, tasks[task], label, controllers[label], seeds[0], folder=root / name)
        for task in tasks
        for label in controllers
    ]
    for cell in first:
        _check_jobs(cell, jobs)
    cells = tuple(_seeded(cell, seed) for seed in seeds for cell in first)
    return Comparison(name, root, baseline, jobs, cells, plain)


def _cell(
    base: Mapping[str, Any],
    task: str,
    task_settings: Mapping[str, Any],
    label: str,
    entry: Mapping[str, Any],
    seed: int,
    *,
    folder: Path,
) -> Cell:
    known = [entry.name for entry in fields(ControllerSettings)]
    chosen = {key: value for key, value in entry.items() if key != "settings"}
    for key in chosen:
        if key not in known:
            raise ConfigError(f"controllers.{label}: {_unknown(str(key), [*known, 'settings'], 'setting')}")
    own = _entry(entry.get("settings"), f"controllers.{label}.settings")
    for key in own:
        if key in NOT_A_CONTROLLERS:
            raise ConfigError(f"controllers.{label}.settings.{key}: this is the same for all controllers")
    merged = merge(merge(merge(QUIET, base), task_settings), own)
    merged = merge(merged, {"controller": {"name": label, **chosen}, "seed": seed})
    merged = merge(merged, {"run": {"root": str(folder), "name": f"{task}.{label}.{seed}"}})
    try:
        settings, complete = complete_settings(merged)
        check_ranges(complete)
    except ConfigError as error:
        raise ConfigError(f"{label} on {task}: {error}") from None
    if settings.run.store is not None:
        raise ConfigError(
            "run.store: the searches of a comparison share no store, or their times could not be compared"
        )
    if settings.count != "distinct" and settings.evaluations % settings.controller.n_envs:
        raise ConfigError(
            f"{label} on {task}: evaluations={settings.evaluations} are not whole batches of "
            f"n_envs={settings.controller.n_envs}, and all controllers must have as many"
        )
    return Cell(task, label, seed, complete)


def _seeded(cell: Cell, seed: int) -> Cell:
    """The same search with another seed."""
    other = replace(cell, seed=seed, settings=deepcopy(cell.settings) | {"seed": seed})
    other.settings["run"]["name"] = other.name
    return other


def _check_jobs(cell: Cell, jobs: int) -> None:
    cost, meter = cell.settings["reward"]["cost"], cell.settings["latency"]["meter"]
    if jobs > 1 and cost == "latency_ms" and meter not in ("table", "predictor"):
        from rlnas.cli.tabular import TABLES

        if cell.settings["task"]["name"] in TABLES:  # where nothing is measured
            return
        raise ConfigError(
            f"jobs={jobs}: {cell.controller} on {cell.task} is paid for measured latency, which other searches beside "
            "it disturb; set jobs: 1, reward.cost=macs, or a meter that knows latency (table, predictor)"
        )


def _baseline(plain: Mapping[str, Any], controllers: Mapping[str, Mapping[str, Any]]) -> str:
    given = plain.get("baseline")
    if given is not None and given not in controllers:
        raise ConfigError(_unknown(str(given), list(controllers), "controller as the baseline"))
    random = [label for label, entry in controllers.items() if entry.get("name", label) == "random"]
    plainly = [label for label in random if not controllers[label].get("settings")]
    label = given or next(iter(plainly), None)
    if label is None or label not in random:
        raise ConfigError("controllers: random search is missing, with which all others are compared; add random: {}")
    return str(label)


def _seeds(given: Any) -> list[int]:
    seeds = list(range(given)) if _whole(given) else given
    if not isinstance(seeds, list) or not seeds or not all(_whole(s) and s >= 0 for s in seeds):
        raise ConfigError(f"seeds={given!r} must be how many, or a list of whole numbers")
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"seeds={given!r} names one twice")
    return seeds


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings with others over them; what is not a mapping is replaced as a whole."""
    merged = deepcopy(dict(under))
    for key, value in over.items():
        both = isinstance(merged.get(key), dict) and isinstance(value, dict)
        merged[key] = merge(merged[key], value) if both and key not in ("options", "arguments") else deepcopy(value)
    return merged


def _mapping(plain: Mapping[str, Any], key: str) -> dict[str, Any]:
    return dict(_entry(plain.get(key), key))


def _entry(value: Any, where: str) -> Mapping[str, Any]:
    if value is not None and not isinstance(value, dict):
        raise ConfigError(f"{where} must be a mapping, not {value!r}")
    return value or {}


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _unknown(name: str, known: Any, kind: str) -> str:
    near = difflib.get_close_matches(name, [*known], n=1)
    return f"unknown {kind} {name!r}{f': did you mean {near[0]!r}?' if near else ''} (known: {', '.join(known)})"
