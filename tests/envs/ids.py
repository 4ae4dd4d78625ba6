"""Every registered environment in a quick form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

import rlnas  # noqa: F401  (registers the ids)
from rlnas.envs.single import EpisodeEnv
from rlnas.spaces import nas_bench_201_space
from tests.envs.fakes import GraphEvaluator, OnePass
from tests.envs.tables import SPACE
from tests.evaluation.test_cell_table import write
from tests.spaces.test_makers import SMALL

IDS = sorted(id for id in gymnasium.registry if id.startswith("rlnas/"))
TABLE = "nasbench201.npz"
"""Stands for the file that a test has."""
MEASURED = "rlnas/MorphLatency-v0"
"""The one whose rewards hang on a clock."""

JUDGED: dict[str, Any] = {"evaluator": GraphEvaluator(), "start_evaluations": 5}
MORPH: dict[str, Any] = JUDGED | {"start_epochs": 0.1, "max_steps": 3}
LATENCY = {"accuracy": np.linspace(0, 1, SPACE.size), "latency_ms": np.linspace(1, 2, SPACE.size)}

QUICK: dict[str, dict[str, Any]] = {
    "rlnas/Build-v0": {"space": SPACE, "scores": LATENCY["accuracy"], "columns": LATENCY},
    "rlnas/Morph-v0": MORPH,
    MEASURED: MORPH | {"meter": OnePass()},
    "rlnas/MorphCompress-v0": MORPH,
    "rlnas/MorphGrow-v0": MORPH,
    "rlnas/NASBench201-v0": {"path": TABLE, "device": "fpga"},
    "rlnas/NASBench201Edit-v0": {"path": TABLE, "max_steps": 2},
}
"""Settings by id: all of `IDS`."""

FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "edits of a table": (
        "rlnas/Build-v0",
        {"space": SPACE, "scores": LATENCY["accuracy"], "form": "edit", "max_steps": 3},
    ),
    "decisions within a limit": (
        "rlnas/Build-v0",
        {"space": SPACE, "scores": LATENCY["accuracy"], "allowed": LATENCY["latency_ms"] < 1.3},
    ),
    "a table that pays every step": (
        "rlnas/Build-v0",
        {"space": SPACE, "scores": LATENCY["accuracy"], "step_reward": "evaluated"},
    ),
    "edits of a cell": (
        "rlnas/NASBench201-v0",
        {"path": TABLE, "form": "edit", "max_steps": 2, "start": nas_bench_201_space().choices((3,) * 6)},
    ),
    "rejection": ("rlnas/Morph-v0", MORPH | {"enforce": "reject", "max_macs": "2x"}),
    "penalty": ("rlnas/Morph-v0", MORPH | {"enforce": "penalty", "max_macs": "2x"}),
    "lower and upper limits": ("rlnas/Morph-v0", MORPH | {"min_macs": "110%", "max_macs": "2x"}),
    "shrinking only": ("rlnas/Morph-v0", MORPH | {"variants": ["prune_channels 0.5", "remove_layer 1"]}),
    "small start": ("rlnas/Morph-v0", MORPH | {"stages": 1, "width": 2, "max_nodes": 20}),
    "paid at every step": ("rlnas/Morph-v0", MORPH | {"step_reward": "cost"}),
    "evaluated at every step": ("rlnas/Morph-v0", MORPH | {"step_reward": "evaluated"}),
    "few actions": ("rlnas/Morph-v0", MORPH | {"stages": 1, "width": 2, "max_nodes": 12, "variants": ["widen 2"]}),
} | {
    f"networks of {space}": ("rlnas/Build-v0", {"space": space, "max_macs": "3x", **JUDGED, **sizes})
    for space, sizes in SMALL.items()
}
"""Other spaces and forms of the same environments, by what is special."""


def settings_of(name: str, folder: Path) -> tuple[str, dict[str, Any]]:
    """(id, settings) of an id or of one of `FORMS`; a table that they read is written into the folder."""
    id, settings = FORMS[name] if name in FORMS else (name, QUICK[name])
    if settings.get("path") != TABLE:
        return id, dict(settings)
    file = folder / TABLE
    return id, settings | {"path": str(file if file.exists() else write(file))}


def make(name: str, folder: Path) -> EpisodeEnv:
    """The environment of an id or of one of `FORMS`, without wrappers."""
    id, settings = settings_of(name, folder)
    env = gymnasium.make(id, **settings).unwrapped
    assert isinstance(env, EpisodeEnv)
    return env


def play(env: EpisodeEnv, actions: np.random.Generator, *, steps: int | None = None) -> list[dict[str, Any]]:
    """Legal actions until the episode ends, or so many; what each step gave."""
    given: list[dict[str, Any]] = []
    while steps is None or len(given) < steps:
        step = env.step(np.int64(actions.choice(env.action_masks().nonzero()[0])))
        given.append(dict(zip(("observation", "reward", "terminated", "truncated", "info"), step, strict=True)))
        if step[2]:
            break
    return given


def varying(name: str) -> frozenset[str]:
    """What two equal environments may differ in: what a clock says."""
    return frozenset({"latency_ms", "minus_latency_ms", "reward"} if name == MEASURED else ())


def same(first: Any, second: Any, *, but: frozenset[str] = frozenset()) -> bool:
    """Whether two steps, observations or infos are equal, whatever these keys say."""
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k], but=but) for k in first.keys() - but)
    if isinstance(first, tuple | list):
        return len(first) == len(second) and all(same(a, b, but=but) for a, b in zip(first, second, strict=True))
    return bool(np.array_equal(first, second))
