"""The meter that settings ask for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rlnas.latency import Meter, make_meter


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


def meter_of(name: str, settings: Mapping[str, Any]) -> Meter:
    """The meter of that name.

    Raises:
        MeterError: If the name is not known, or a setting is not one of the meter's, missing or out of range.
    """
    return make_meter(name, **{key: settings[key] for key in SETTINGS})
