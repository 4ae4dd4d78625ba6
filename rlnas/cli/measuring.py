"""The meter that settings ask for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rlnas.latency import METERS, Meter, arguments_of, make_meter


def whether(text: str) -> bool:
    """True or false, as YAML writes them."""
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"


SETTINGS: Final[Mapping[str, tuple[Any, str]]] = {
    "batch_size": (int, "samples in one call"),
    "threads": (int, "threads that the runtime computes with"),
    "dtype": (str, "float32, bfloat16 or float16"),
    "warmup": (int, "untimed calls before the first timed one"),
    "repeats": (int, "fewest timed rounds; runs of a command"),
    "precision": (float, "half of the interval, relative to the latency, that is narrow enough"),
    "max_time_s": (float, "longest time for one network"),
    "replay": (whether, "true or false: replay a captured CUDA graph"),
    "command": (str, "command line that prints milliseconds, such as 'ssh pi measure {onnx}'"),
    "timeout_s": (float, "seconds after which a command is given up"),
    "wait_s": (float, "seconds to wait for another process that measures"),
    "table": (str, "file that rlnas latency build-table wrote"),
    "predictor": (str, "file that rlnas latency fit wrote"),
}
"""Settings of meters: type and meaning. Each meter knows some of them; None leaves one to its default."""


SEARCH: Final[Mapping[str, Any]] = {"precision": 0.02, "max_time_s": 0.5}
"""What a search is content with where its settings say nothing: it measures hundreds of networks."""


def meter_of(name: str, settings: Mapping[str, Any], *, defaults: Mapping[str, Any] | None = None) -> Meter:
    """The meter of that name.

    Args:
        defaults: Settings in the place of the meter's own defaults, as far as it knows them.

    Raises:
        MeterError: If the name is not known, or a setting is not one of the meter's, missing or out of range.
    """
    known = arguments_of(METERS[name]) if name in METERS else {}
    chosen = {key: value for key, value in (defaults or {}).items() if key in known}
    given = {key: settings[key] for key in SETTINGS if settings[key] is not None}
    return make_meter(name, **{**chosen, **given})
