"""Checks of a constructor's arguments that come from a person's configuration."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Iterable
from typing import Any

from rlnas.errors import ConfigError, unknown_name


def check_arguments(target: type, arguments: dict[str, Any], *, of: str, reserved: Iterable[str]) -> None:
    """Check names and types of arguments against a class's constructor.

    Args:
        of: What has these arguments, for the message.
        reserved: Parameters that are not a person's to give.

    Raises:
        ConfigError: Naming the first argument that is unknown or of the wrong type.
    """
    hints = _parameters(target)
    known = hints.keys() - {*reserved}
    for name, value in arguments.items():
        if not known:
            raise ConfigError(f"{of} takes no arguments, but {name!r} is given")
        if name not in known:
            raise ConfigError(unknown_name(f"argument of {of}:", name, known))
        if not _fits(value, hints[name]):
            wanted = str(hints[name]) if isinstance(hints[name], types.UnionType) else hints[name].__name__
            raise ConfigError(f"{name}={value!r} of {of} has the wrong type: {wanted} is expected")


def _parameters(target: type) -> dict[str, Any]:
    """Parameters of a constructor with their types, and those of its base class where it passes others on by ``**``."""
    constructor = vars(target).get("__init__")
    if constructor is None:
        return _parameters(target.__mro__[1])
    hints = typing.get_type_hints(constructor)
    kinds = {p.name: p.kind for p in inspect.signature(constructor).parameters.values() if p.name != "self"}
    passed_on = _parameters(target.__mro__[1]) if inspect.Parameter.VAR_KEYWORD in kinds.values() else {}
    return passed_on | {n: hints[n] for n, kind in kinds.items() if kind != inspect.Parameter.VAR_KEYWORD}


def _fits(value: Any, hint: Any) -> bool:
    """True if a value is of a plain type or a union of them; an int passes as a float."""
    if isinstance(hint, types.UnionType):
        return any(_fits(value, part) for part in typing.get_args(hint))
    plain = typing.get_origin(hint) or hint
    if plain in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, (int, float) if plain is float else plain)
