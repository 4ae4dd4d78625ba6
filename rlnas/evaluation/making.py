"""Evaluators and layers from names and numbers: what the environments and the command line both use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rlnas.errors import ConfigError, unknown_name
from rlnas.evaluation.halving import Halving
from rlnas.evaluation.layers import Layer
from rlnas.evaluation.metrics import Evaluator
from rlnas.evaluation.own import own_evaluator
from rlnas.evaluation.predicting import SurrogateRanker
from rlnas.evaluation.screening import Ranker, ScoreRanker, Screen
from rlnas.evaluation.service import Service
from rlnas.evaluation.tabular import TabularEvaluator
from rlnas.evaluation.training import TrainingEvaluator
from rlnas.evaluation.zero_cost import SCORES, VOTES
from rlnas.importing import is_import_path
from rlnas.tasks import Task

TEMPERATURE, ROUNDS, KEEP = 4.0, 3, 0.5
WITH_ACCURACY = ("training", "tabular")
"""Evaluators whose metrics a reward can be paid for."""
WITHOUT = {"zero_cost": "az_nas", "surrogate": "surrogate"}
"""Evaluators that measure no accuracy, each with a screen that puts it to use."""


def make_evaluator(
    name: str,
    task: Task,
    *,
    training: Mapping[str, Any],
    options: Mapping[str, Any] | None = None,
    distill: float = 0.0,
    temperature: float | None = None,
    table: str | Path | None = None,
) -> Evaluator:
    """An evaluator that can pay a search.

    Args:
        name: One of `WITH_ACCURACY`, or the import path of a person's own.
        training: Arguments of `TrainingEvaluator`.
        options: Arguments of a person's own evaluator beside the task.
        distill: Share of the training loss that the start network's outputs give.
        temperature: What outputs are divided by before they are compared; 4 by default.
        table: File of `TabularEvaluator`.

    Raises:
        ConfigError: If the name is not known, or of an evaluator without accuracy, an option would do nothing, or the
            import path leads to no evaluator.
        EvaluationError: If the table cannot be read.
    """
    if name in WITHOUT:
        raise ConfigError(
            f"the evaluator {name!r} measures no accuracy, which rewards are paid for: let it choose what is trained, "
            f"with evaluation.screen={WITHOUT[name]}"
        )
    own = is_import_path(name)
    if not own and name not in WITH_ACCURACY:
        raise ConfigError(unknown_name("evaluator", name, WITH_ACCURACY))
    if (name == "tabular") != (table is not None):
        raise ConfigError(
            "the evaluator 'tabular' needs the file of a table: give evaluation.table"
            if table is None
            else f"evaluation.table does nothing with the evaluator {name!r}: set evaluation.name to tabular"
        )
    if distill and name != "training":
        raise ConfigError(f"evaluation.distill does nothing with the evaluator {name!r}, only with 'training'")
    if options and not own:
        raise ConfigError(f"evaluation.options are for an evaluator of your own; {name!r} has settings by name")
    if temperature is not None and not distill:
        raise ConfigError("evaluation.temperature does nothing without evaluation.distill")
    if own:
        return own_evaluator(name, task, options or {})
    if table is not None:
        return TabularEvaluator(task, table)
    return TrainingEvaluator(
        task, distill=distill, temperature=TEMPERATURE if temperature is None else temperature, **training
    )


def make_layers(
    service: Service,
    *,
    halving: float | None = None,
    rounds: int | None = None,
    screen: str | None = None,
    keep: float | None = None,
) -> Service | Layer:
    """The service with the layers that are asked for: first a screen, then successive halving of those that pass.

    Args:
        halving: Of so many networks one goes on to the next, longer round; None has no rounds.
        rounds: Rounds of trainings, the last of full length; 3 by default.
        screen: A score or vote, or ``"surrogate"``; None evaluates everything.
        keep: Share of new candidates that passes the screen; 0.5 by default.

    Raises:
        ConfigError: If a name is not known, a number out of range, or an option would do nothing.
    """
    if rounds is not None and halving is None:
        raise ConfigError("evaluation.rounds does nothing without evaluation.halving")
    if keep is not None and screen is None:
        raise ConfigError("evaluation.keep does nothing without evaluation.screen")
    layered: Service | Layer = service
    if halving is not None:
        layered = Halving.of_epochs(service, rounds=ROUNDS if rounds is None else rounds, eta=halving)
    if screen is not None:
        layered = Screen(layered, _ranker(screen, service), keep=KEEP if keep is None else keep)
    return layered


def _ranker(name: str, service: Service) -> Ranker:
    if name == "surrogate":
        return SurrogateRanker(service)
    if name not in SCORES and name not in VOTES:
        raise ConfigError(unknown_name("screen", name, [*SCORES, *VOTES, "surrogate"]))
    return ScoreRanker(service, name)


def rank_by(service: Service | Layer, value: Callable[[Any], float]) -> None:
    """Let the layers that compare metrics do it by this value."""
    while isinstance(service, Layer):
        if isinstance(service, Halving):
            service.value = value
        service = service.inner
