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
    return type(value) is tuple and 1 <= len(value) <= 3 and all(v >= least for v in value)


def _number(value: Any) -> bool:
    return type(value) is float and math.isfinite(value)


def _axes(value: Any) -> bool:
    return type(value) is tuple and all(v >= 0 for v in value)


def _one_of(*values: str) -> Attribute:
    return Attribute(lambda value: value in values, " or ".join(map(repr, values)))


_TEXT = Attribute(lambda value: type(value) is str, "a text")
_INDEX = Attribute(lambda value: type(value) is int and value >= 0, "a whole number of at least 0")
_MARGINS = Attribute(lambda value: _sizes(value, least=0), "a list of whole numbers of at least 0")
_COUNT = Attribute(_count, "a whole number of at least 1")
_SIZES = Attribute(_sizes, "a list of whole numbers of at least 1")
_FLAG = Attribute(lambda value: type(value) is bool, "true or false")
_NUMBER = Attribute(_number, "a finite number with a decimal point")

ATTRIBUTES: dict[str, Attribute] = {
    "shape": Attribute(
        lambda value: type(value) is tuple and all(v >= 1 for v in value),
        "a list of whole numbers of at least 1",
    ),
    "dtype": _one_of("float32", "int64", "bool"),
    "out_channels": _COUNT,
    "num_embeddings": _COUNT,
    "groups": _COUNT,
    "heads": _COUNT,
    "kv_heads": _COUNT,
    "dims": Attribute(lambda value: _count(value) or _axes(value), "a number of axes, or their order"),
    "axis": Attribute(lambda value: type(value) is int, "a whole number"),
    "axes": Attribute(_axes, "a list of axes, each a whole number of at least 0"),
    "start": _INDEX,
    "stop": _INDEX,
    "step": _COUNT,
    "size": Attribute(lambda value: _count(value) or _sizes(value), "a list of whole numbers of at least 1"),
    "factor": _COUNT,
    "shift": _COUNT,
    "indices": Attribute(_axes, "a list of places"),
    "amounts": Attribute(lambda value: type(value) is tuple, "a list of whole numbers"),
    "kernel_size": _SIZES,
    "stride": _SIZES,
    "dilation": _SIZES,
    "output_size": _SIZES,
    "output_padding": _MARGINS,
    "padding": _MARGINS,
    "padding_mode": _one_of("zeros", "reflect", "replicate", "circular"),
    "mode": _one_of("nearest", "nearest-exact", "linear", "bilinear", "bicubic", "trilinear", "area"),
    "kind": _one_of(
        *("mean", "sum", "max", "min", "var", "std", "prod", "logsumexp", "norm"),
        *("sdpa", "scores", "divided", "query"),
    ),
    "sampling": _one_of("nearest", "bilinear", "bicubic"),
    "margins": _one_of("zeros", "border", "reflection"),
    "text": _TEXT,
    "shares": _TEXT,
    "bias": _FLAG,
    "ceil_mode": _FLAG,
    "count_include_pad": _FLAG,
    "affine": _FLAG,
    "tracked": _FLAG,
    "trained": _FLAG,
    "per_channel": _FLAG,
    "keepdim": _FLAG,
    "unbiased": _FLAG,
    "causal": _FLAG,
    "align_corners": _FLAG,
    "antialias": _FLAG,
    "value": _NUMBER,
    "scale": _NUMBER,
    "min_val": _NUMBER,
    "max_val": _NUMBER,
    "order": _NUMBER,
    "beta": _NUMBER,
    "k": _NUMBER,
    "threshold": _NUMBER,
    "lambd": _NUMBER,
    "negative_slope": _NUMBER,
    "alpha": _NUMBER,
    "eps": Attribute(lambda value: _number(value) and value >= 0, "a number of at least 0.0"),
    "momentum": Attribute(lambda value: _number(value) and 0 <= value <= 1, "a number in [0.0, 1.0]"),
    "p": Attribute(lambda value: _number(value) and 0 <= value < 1, "a number in [0.0, 1.0)"),
    "approximate": _one_of("none", "tanh"),
}
"""Which values each attribute takes; a name means the same in every op."""
