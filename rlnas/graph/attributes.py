"""Which values the attributes of nodes take."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Attribute:
    """Which values an attribute takes.

    Attributes:
        accepts: True for those it takes, type included.
        description: The same in words, after "should be".
    """

    accepts: Callable[[Any], bool]
    description: str


def _count(value: Any) -> bool:
    return type(value) is int and value >= 1


def _sizes(value: Any, *, least: int = 1) -> bool:
    return type(value) is tuple and len(value) == 2 and all(v >= least for v in value)


def _number(value: Any) -> bool:
    return type(value) is float and math.isfinite(value)


_COUNT = Attribute(_count, "a whole number of at least 1")
_SIZES = Attribute(_sizes, "two whole numbers of at least 1")
_FLAG = Attribute(lambda value: type(value) is bool, "true or false")
_NUMBER = Attribute(_number, "a finite number with a decimal point")

ATTRIBUTES: dict[str, Attribute] = {
    "shape": Attribute(
        lambda value: type(value) is tuple and bool(value) and all(v >= 1 for v in value),
        "a list of whole numbers of at least 1",
    ),
    "out_channels": _COUNT,
    "groups": _COUNT,
    "kernel_size": _SIZES,
    "stride": _SIZES,
    "dilation": _SIZES,
    "output_size": _SIZES,
    "padding": Attribute(lambda value: _sizes(value, least=0), "two whole numbers of at least 0"),
    "bias": _FLAG,
    "ceil_mode": _FLAG,
    "count_include_pad": _FLAG,
    "negative_slope": _NUMBER,
    "alpha": _NUMBER,
    "eps": Attribute(lambda value: _number(value) and value >= 0, "a number of at least 0.0"),
    "momentum": Attribute(lambda value: _number(value) and 0 <= value <= 1, "a number in [0.0, 1.0]"),
    "p": Attribute(lambda value: _number(value) and 0 <= value < 1, "a number in [0.0, 1.0)"),
    "approximate": Attribute(lambda value: value in ("none", "tanh"), "'none' or 'tanh'"),
}
"""Which values each attribute takes; a name means the same in every op."""
