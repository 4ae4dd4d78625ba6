"""A person's own code, named by an import path: ``package.module:name``."""

from __future__ import annotations

import difflib
import importlib
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlnas.errors import ConfigError

IMPORT_PATH = re.compile(r"(?P<module>[^\W\d]\w*(?:\.[^\W\d]\w*)*):(?P<name>[^\W\d]\w*(?:\.[^\W\d]\w*)*)")


def is_import_path(text: str) -> bool:
    """True for what is meant as an import path: no name of rlnas's own has a colon."""
    return ":" in text


def imported(path: str) -> Any:
    """What an import path names. This runs the module, if it has not been imported yet.

    Raises:
        ConfigError: If there is no such module, it cannot be imported, or it has no such name.
    """
    match = IMPORT_PATH.fullmatch(path)
    if match is None or match["module"].endswith(".py"):
        raise ConfigError(
            f"{path!r} is no import path; write it as package.module:name, a file mine.py that lies in a folder of "
            "sys.path as mine:name"
        )
    importlib.invalidate_caches()  # the file may have been written a moment ago
    try:
        module = importlib.import_module(match["module"])
    except Exception as error:
        raise ConfigError(f"cannot import {match['module']}: {told(error)}") from None
    return attribute(module, match["module"], match["name"], wanted=_made_there)


def _made_there(value: Any, home: str) -> bool:
    return callable(value) and getattr(value, "__module__", None) == home


def reach(folder: str | Path) -> None:
    """Let a folder's modules be imported, by this process and by those that it starts."""
    place = str(Path(folder).absolute())
    if place not in sys.path:
        sys.path.insert(0, place)


def attribute(
    namespace: Any, place: str, name: str, *, wanted: Callable[[Any, str], bool] = lambda value, home: False
) -> Any:
    """An attribute, or one of an attribute (``Outer.Inner``).

    Args:
        place: What the namespace is called in errors.
        wanted: Whether a value, given with the namespace's name, is one to suggest.

    Raises:
        ConfigError: If it does not exist; names the nearest, or those to suggest.
    """
    found = namespace
    for part in name.split("."):
        if not hasattr(found, part):
            public = [own for own in vars(found) if not own.startswith("_")] if hasattr(found, "__dict__") else []
            near = difflib.get_close_matches(part, public, n=1)
            others = [own for own in public if wanted(getattr(found, own), namespace.__name__)]
            hint = f"; did you mean {near[0]}?" if near else f"; it has {', '.join(others)}" if others else ""
            raise ConfigError(f"{place} has no {part}{hint}")
        found = getattr(found, part)
    return found


def told(error: Exception) -> str:
    """What went wrong, and where in the person's own code, in one line."""
    torch = sys.modules.get("torch")
    ours = (str(Path(__file__).parent), "<", *([str(Path(torch.__file__).parent)] if torch and torch.__file__ else []))
    frames = [f"{f.filename}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)]
    own = [place for place in frames if not place.startswith(ours)]
    if isinstance(error, SyntaxError):
        own.append(f"{error.filename}:{error.lineno}")
    words = re.sub(r"\s+", " ", str(getattr(error, "msg", None) or error)).strip()
    said = f"{type(error).__name__}: {words[:300]}" if words else type(error).__name__
    return f"{said} ({own[-1]})" if own else said
