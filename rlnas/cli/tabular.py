"""A run whose results are looked up in a table: the search, random search beside it, and what their best are worth."""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from rich.console import Console

from rlnas.cli.budget import within
from rlnas.cli.config import SearchSettings
from rlnas.cli.progress import SearchProgress
from rlnas.cli.running import new_run, searches_of, tracked
from rlnas.cli.stages import controller_arguments, make_searcher, play_stage
from rlnas.cli.tabular_report import Answer, write_report
from rlnas.envs import EpisodeVecEnv, TableProblem, make_nas_bench_201
from rlnas.errors import ConfigError, unknown_name
from rlnas.runs import RunDirectory, fingerprint, read_evaluations, write_text
from rlnas.tracking import resolve_mode

TABLES: Final[dict[str, Callable[..., TableProblem]]] = {"nas_bench_201": make_nas_bench_201}
"""Makers of problems whose results are looked up, by the name of the task."""
IDLE: Final = ("space", "evaluation", "latency", "reward")
"""Groups of settings that a table has no use for."""
IDLE_FINAL: Final = ("candidates", "seeds", "epochs")


def is_looked_up(settings: SearchSettings) -> bool:
    """True if the task is a table."""
    return settings.task.name in TABLES


def begin(settings: SearchSettings, plain: dict[str, Any], *, stem: str) -> int:
    """Check the settings, then make the run directory and search.

    Returns:
        Exit status.
    """
    problem = check(settings)
    if settings.task.path is not None:
        plain["task"]["path"] = str(Path(settings.task.path).absolute())  # a run may be resumed from another folder
    return _run(new_run(settings, plain, stem=stem), settings, plain, problem)


def check(settings: SearchSettings) -> TableProblem:
    """Check everything that a person can have got wrong; gives the problem."""
    problem = make_table(settings)
    resolve_mode(settings.tracking.mode, os.environ)
    env = EpisodeVecEnv(problem, n_envs=settings.controller.n_envs, seed=settings.seed)
    make_searcher(settings, env)
    return problem


def proceed(run: RunDirectory, settings: SearchSettings, plain: dict[str, Any]) -> int:
    """Go on with a run from its last checkpoints; returns the exit status."""
    return _run(run, settings, plain, make_table(settings))


def make_table(settings: SearchSettings) -> TableProblem:
    """The problem that the settings name.

    Raises:
        ConfigError: If an option is not known, or a setting is given that does nothing here.
        EvaluationError: If the table cannot be read.
        LimitError: If nothing in it meets the limits.
    """
    name = settings.task.name
    for group in IDLE:
        _refuse_idle(name, group, getattr(settings, group), None)
    _refuse_idle(name, "final", settings.final, IDLE_FINAL)
    for option in ("store", "code"):
        if getattr(settings.run, option) is not None:
            raise ConfigError(f"run.{option} does nothing with the task {name!r}, whose results are looked up")
    known, options = inspect.signature(TABLES[name]).parameters, dict(settings.task.options or {})
    for option in options:
        if option not in known or option == "path":
            raise ConfigError(unknown_name(f"option of task {name}:", option, set(known) - {"path"}))
    if options.get("step_reward", "end") != "end":
        options = {"discount": controller_arguments(settings).get("gamma")} | options
    return TABLES[name](settings.task.path, **options)


def _refuse_idle(task: str, group: str, given: Any, names: Sequence[str] | None) -> None:
    """Refuse settings other than the defaults."""
    for field in dataclasses.fields(given):
        idle = names is None or field.name in names
        if idle and getattr(given, field.name) != field.default:
            raise ConfigError(
                f"{group}.{field.name} does nothing with the task {task!r}, whose results are looked up; what can be "
                "chosen is in task.options"
            )


def _run(run: RunDirectory, settings: SearchSettings, plain: dict[str, Any], problem: TableProblem) -> int:
    torch.set_num_threads(1)
    console = Console(highlight=False)
    console.print(f"run directory: {run.path}")
    console.print(f"{settings.task.name}: {problem.feasible.count:,} of {problem.space.size:,} meet {problem.limits}")
    begun, searches = time.time(), searches_of(settings)
    with tracked(run, settings, plain, console) as tracker:
        with SearchProgress(console, enabled=settings.progress) as progress:
            for stage, name in searches.items():
                play_stage(
                    stage,
                    name,
                    settings=settings,
                    run=run,
                    problem=problem,
                    tracker=tracker,
                    progress=progress,
                    owner=fingerprint(plain),
                    followers={"best": BestChoice(run, problem)} if stage == "controller" else {},
                )
            progress.finish()
        found = {name: within(read_evaluations(run.events, stage), settings) for stage, name in searches.items()}
        answers = [Answer.of(name, evaluations, problem) for name, evaluations in found.items()]
        _keep(run, answers[0])
        write_report(run, answers, problem=problem, found=found, tracker=tracker, console=console, begun=begun)
    return 0


class BestChoice:
    """Keeps ``best/metrics.json`` current: what has the highest reward so far.

    Args:
        run: The run.
        problem: The table.
    """

    def __init__(self, run: RunDirectory, problem: TableProblem) -> None:
        self._run, self._problem = run, problem
        self._reward = -np.inf

    def add(self, evaluation: Mapping[str, Any]) -> None:
        """Look at one more evaluation."""
        if evaluation["status"] == "ok" and evaluation["reward"] > self._reward:
            self._reward = evaluation["reward"]
            record = {"stage": "search", "split": "validation", **evaluation}
            write_text(self._run.best / "metrics.json", json.dumps(record, indent=1) + "\n")

    def state(self) -> float | None:
        """The highest reward."""
        return None if self._reward == -np.inf else self._reward

    def restore(self, state: float | None) -> None:
        """Take up the highest reward."""
        self._reward = -np.inf if state is None else state


def _keep(run: RunDirectory, answer: Answer) -> None:
    """Put the controller's answer into ``best/``, with its test accuracy."""
    if answer.evaluation is None:
        return
    final = {"stage": "final", "test_accuracy": answer.test_accuracy, "regret": answer.regret, **answer.evaluation}
    run.write_json(run.best / "metrics.json", final)
