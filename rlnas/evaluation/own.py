"""A person's own evaluator, named by its import path."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from rlnas.errors import ConfigError
from rlnas.evaluation.metrics import Evaluator
from rlnas.importing import imported, told
from rlnas.tasks import Task


def own_evaluator(path: str, task: Task, options: Mapping[str, Any]) -> Evaluator:
    """The evaluator that a class or function gives for a task.

    Args:
        path: Import path of what is called with the task and the options.
        options: Named arguments.

    Raises:
        ConfigError: If there is no such class or function, it cannot be called, or gives no evaluator.
    """
    make = imported(path)
    if not callable(make):
        raise ConfigError(f"{path} is of type {type(make).__name__}; name a class or function that takes the task")
    try:
        inspect.signature(make).bind(task, **options)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{path} cannot be called with the task and evaluation.options={dict(options)}: {error}"
        ) from None
    try:
        evaluator = make(task, **options)
    except Exception as error:
        raise ConfigError(f"cannot make the evaluator {path}: {told(error)}") from None
    wanted = [name for name in vars(Evaluator) if not name.startswith("_")]
    if lacking := [name for name in wanted if not hasattr(evaluator, name)]:
        raise ConfigError(
            f"{path} gives a {type(evaluator).__name__} without {', '.join(lacking)}; "
            f"an evaluator has {', '.join(wanted)}"
        )
    made: Evaluator = evaluator
    return made
