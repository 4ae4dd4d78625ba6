"""Tables and predictors as files: JSON that can be copied from one machine to another."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlnas.errors import MeterError


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Replace a file as a whole: a reader sees the old one or the new one.

    Raises:
        MeterError: If it cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "w", encoding="utf-8") as file:
            json.dump(data, file, indent=1, allow_nan=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise MeterError(f"cannot write {path}: {error.strerror}") from None


def read_json(path: Path, *, kind: str, format: str) -> dict[str, Any]:
    """The content of a file of a format such as ``"rlnas.latency-table/1"``.

    Args:
        kind: What the file should be, in words.

    Raises:
        MeterError: If it is missing, cannot be read, is damaged, or is of another format.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MeterError(f"there is no {kind} {path}") from None
    except OSError as error:
        raise MeterError(f"cannot read the {kind} {path}: {error.strerror}") from None
    except ValueError as error:
        raise MeterError(f"the {kind} {path} is damaged: {error}") from None
    found = data.get("format") if isinstance(data, dict) else None
    if found == format:
        return data  # type: ignore[no-any-return]
    name, _, version = format.partition("/")
    if isinstance(found, str) and found.startswith(f"{name}/"):
        raise MeterError(f"the {kind} {path} is of format {found}, this version of rlnas knows {version}: update rlnas")
    raise MeterError(f"{path} is no {kind}" + (f", but of format {found}" if isinstance(found, str) else ""))
