"""Hyper-parameters of training as decisions, for any space of networks to be joined with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from rlnas.errors import SpaceError, unknown_name
from rlnas.spaces.decisions import Choice, Decision

TRAINING_CHOICES: Final[dict[str, tuple[Choice, ...]]] = {
    "optimizer": ("sgd", "adamw"),
    "learning_rate": (0.003, 0.01, 0.03, 0.1),
    "weight_decay": (0.0001, 0.001, 0.01, 0.1),
    "batch_size": (16, 32, 64),
    "momentum": (0.8, 0.9, 0.95),
    "warmup": (0.0, 0.05, 0.2),
}
"""What there is to choose from of each, unless something else is given."""


def training_decisions(
    given: Sequence[str] | Mapping[str, Iterable[Choice]], *, usual: Mapping[str, Choice]
) -> tuple[Decision, ...]:
    """Decisions on hyper-parameters of training.

    Args:
        given: Their names, or their choices by name.
        usual: What training takes where nothing is decided: goes first if it is among the choices.

    Raises:
        SpaceError: If a name is not known, or there is nothing to choose from.
    """
    if isinstance(given, str):
        raise SpaceError(f"training={given!r} must be a list of hyper-parameters, or their choices by name")
    found = []
    for name in given:
        if name not in TRAINING_CHOICES:
            raise SpaceError(unknown_name("hyper-parameter of training", str(name), TRAINING_CHOICES))
        chosen = given[name] if isinstance(given, Mapping) else TRAINING_CHOICES[name]
        if isinstance(chosen, str | int | float):
            raise SpaceError(f"training: {name}={chosen!r} must be a list of choices")
        choices = tuple(chosen)
        first = usual.get(name)
        found.append(Decision(name, tuple(sorted(choices, key=lambda choice: choice != first))))
    return tuple(found)
