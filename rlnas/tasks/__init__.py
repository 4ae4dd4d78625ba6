"""Data sets as tasks: three fixed splits, a loss and a metric."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final

from rlnas.errors import ConfigError, unknown_name
from rlnas.tasks.digits import make_digits
from rlnas.tasks.fashion_mnist import make_fashion_mnist
from rlnas.tasks.npz import make_npz
from rlnas.tasks.task import Split, Task, make_task

__all__ = ["TASKS", "Split", "Task", "load_task", "make_task"]

TASKS: Final[dict[str, Callable[..., Task]]] = {
    "digits": make_digits,
    "fashion_mnist": make_fashion_mnist,
    "npz": make_npz,
}
"""Makers of tasks by name; a maker's keyword arguments are the options that the task takes."""


def load_task(name: str, **options: Any) -> Task:
    """Load a task by its name.

    Args:
        name: A name in `TASKS`.
        **options: The task's own options; the docstring of its maker lists them.

    Raises:
        ConfigError: If the name or an option is unknown, a needed option is missing, or a value is not possible.
        TaskError: If the data are missing, damaged or not of the expected form.
    """
    if name not in TASKS:
        raise ConfigError(unknown_name("task", name, TASKS))
    parameters = inspect.signature(TASKS[name]).parameters
    for option in options:
        if option not in parameters:
            raise ConfigError(unknown_name(f"option of task {name}:", option, parameters))
    for option, parameter in parameters.items():
        if parameter.default is parameter.empty and options.get(option) is None:
            raise ConfigError(f"task {name} needs the option {option!r}")
    return TASKS[name](**options)
