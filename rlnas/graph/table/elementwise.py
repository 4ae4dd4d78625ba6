"""Rows of the op table: functions of one value at a time, and sums and products of several."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rlnas.errors import GraphError
from rlnas.graph.flow import ELEMENTWISE, Flow
from rlnas.graph.node import Node, Shape
from rlnas.graph.op import REQUIRED, Op, Param, Shapes
from rlnas.graph.table.text import arguments

RELU6 = (("max_val", 6.0), ("min_val", 0.0))
"""Attributes of the hardtanh that PyTorch runs for ``nn.ReLU6``."""


def _pointwise(name: str, function: str, *, family: str = "activation", idempotent: bool = False, **rest: Any) -> Op:
    def call(node: Node, names: tuple[str, ...]) -> str:
        if node.attrs == RELU6:
            return f"F.relu6({names[0]})"
        return f"{function}({arguments([names[0]], node, rest)})"

    return Op(name, family, lambda node, shapes: shapes[0], call=call, attributes=rest, idempotent=idempotent)


ACTIVATIONS = (
    Op(
        "threshold",
        "activation",
        lambda node, shapes: shapes[0],
        call=lambda node, names: f"F.threshold({names[0]}, {node['threshold']!r}, {node['value']!r})",
        attributes={"threshold": 0.0, "value": 0.0},
        idempotent=True,
    ),
    _pointwise("relu", "F.relu", idempotent=True),
    _pointwise("relu6", "F.relu6", idempotent=True),
    _pointwise("leaky_relu", "F.leaky_relu", negative_slope=0.01),
    _pointwise("elu", "F.elu", alpha=1.0),
    _pointwise("celu", "F.celu", alpha=1.0),
    _pointwise("selu", "F.selu"),
    _pointwise("silu", "F.silu"),
    _pointwise("gelu", "F.gelu", approximate="none"),
    _pointwise("mish", "F.mish"),
    _pointwise("hardswish", "F.hardswish"),
    _pointwise("hardsigmoid", "F.hardsigmoid"),
    _pointwise("hardtanh", "F.hardtanh", idempotent=True, min_val=-1.0, max_val=1.0),
    _pointwise("softplus", "F.softplus", beta=1.0, threshold=20.0),
    _pointwise("softsign", "F.softsign"),
    _pointwise("tanhshrink", "F.tanhshrink"),
    _pointwise("log_sigmoid", "F.logsigmoid"),
    _pointwise("hardshrink", "F.hardshrink", idempotent=True, lambd=0.5),
    _pointwise("softshrink", "F.softshrink", lambd=0.5),
    _pointwise("sigmoid", "torch.sigmoid"),
    _pointwise("tanh", "torch.tanh"),
)

CASTS = {"float32": "float", "int64": "long", "bool": "bool"}
"""Method of a tensor for each type."""

UNCHANGED = ("abs", "sign", "floor", "ceil", "round", "trunc")
"""Functions that change nothing when they are applied again."""

FUNCTIONS = tuple(
    _pointwise(name, f"torch.{name}", family="other", idempotent=name in UNCHANGED)
    for name in (
        *("exp", "expm1", "exp2", "log", "log1p", "log2", "log10", "sqrt", "rsqrt", "square", "reciprocal", "neg"),
        *("abs", "sign", "floor", "ceil", "round", "trunc", "sin", "cos", "tan", "asin", "acos", "atan", "sinh"),
        *("cosh", "erf", "erfc", "logical_not", "isnan"),
    )
)

CAST = Op(
    "cast",
    "other",
    lambda node, shapes: shapes[0],
    call=lambda node, names: f"{names[0]}.{CASTS[node['dtype']]}()",
    attributes={"dtype": "float32"},
    idempotent=True,
)

PRELU = Op(
    "prelu",
    "activation",
    lambda node, shapes: shapes[0],
    source=lambda node, shapes: f"nn.PReLU({shapes[0][0] if node['per_channel'] else ''})",
    attributes={"per_channel": False},
    params=lambda node, shapes: {
        "weight": Param((shapes[0][0],), ("out",), "quarter")
        if node["per_channel"]
        else Param((1,), (None,), "quarter")
    },
    flow=lambda node, shapes, out: Flow("channelwise") if node["per_channel"] else ELEMENTWISE,
)


# -------------------------------------------------------------------------------------------------- with a number


def _shown(value: float) -> str:
    """A number as a person writes it, so that whole ones leave whole values whole."""
    return str(int(value)) if value == int(value) and abs(value) < 1e6 else repr(value)


def _with_number(name: str, text: str) -> Op:
    """A function of the input and of a number; the text has {x} and {v} in their places."""

    def call(node: Node, names: tuple[str, ...]) -> str:
        shown = _shown(node["value"])
        return text.format(x=names[0], v=shown if node["value"] >= 0 else f"({shown})")

    return Op(name, "other", lambda node, shapes: shapes[0], call=call, attributes={"value": REQUIRED})


COMPARISONS = {"gt": ">", "lt": "<", "ge": ">=", "le": "<=", "eq": "==", "ne": "!="}
"""Operator of each comparison, whose values are truths."""

NUMBERS = (
    _with_number("add_scalar", "{x} + {v}"),
    _with_number("sub_scalar", "{x} - {v}"),
    _with_number("rsub_scalar", "{v} - {x}"),
    _with_number("mul_scalar", "{x} * {v}"),
    _with_number("div_scalar", "{x} / {v}"),
    _with_number("rdiv_scalar", "{v} / {x}"),
    _with_number("pow_scalar", "{x} ** {v}"),
    _with_number("maximum_scalar", "torch.clamp({x}, min={v})"),
    _with_number("minimum_scalar", "torch.clamp({x}, max={v})"),
    _with_number("remainder_scalar", "{x} % {v}"),
    _with_number("floor_divide_scalar", "{x} // {v}"),
    *(_with_number(f"{name}_scalar", f"{{x}} {symbol} {{v}}") for name, symbol in COMPARISONS.items()),
)

CLAMP = Op(
    "clamp",
    "other",
    lambda node, shapes: shapes[0],
    call=lambda node, names: f"torch.clamp({names[0]}, min={_shown(node['min_val'])}, max={_shown(node['max_val'])})",
    attributes={"min_val": REQUIRED, "max_val": REQUIRED},
    idempotent=True,
)


# ------------------------------------------------------------------------------------------------ of several values


def broadcast(node: Node, shapes: Shapes) -> Shape:
    """The shape that some shapes broadcast to.

    Raises:
        GraphError: If they do not.
    """
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    made = tuple([max(column) for column in zip(*padded, strict=True)])
    if any([size not in (1, whole) for shape in padded for size, whole in zip(shape, made, strict=True)]):
        raise GraphError(f"{node.op} {node.id}: its inputs have different shapes {', '.join(map(str, shapes))}")
    return made


def _joined(symbol: str) -> Callable[[Node, tuple[str, ...]], str]:
    return lambda node, names: f" {symbol} ".join(names)


def _merge(name: str, call: Callable[[Node, tuple[str, ...]], str], *, arity: int | None, commutative: bool) -> Op:
    return Op(name, "merge", broadcast, call=call, arity=arity, commutative=commutative, broadcasts=True)


MERGES = (
    _merge("add", _joined("+"), arity=None, commutative=True),
    _merge("mul", _joined("*"), arity=None, commutative=True),
    _merge("sub", _joined("-"), arity=2, commutative=False),
    _merge("div", _joined("/"), arity=2, commutative=False),
    _merge("pow", _joined("**"), arity=2, commutative=False),
    _merge("maximum", lambda node, names: f"torch.maximum({', '.join(names)})", arity=2, commutative=True),
    _merge("minimum", lambda node, names: f"torch.minimum({', '.join(names)})", arity=2, commutative=True),
)

RELATIONS = (
    *(
        Op(name, "other", broadcast, call=_joined(symbol), arity=2, commutative=name in ("eq", "ne"), broadcasts=True)
        for name, symbol in COMPARISONS.items()
    ),
    *(
        Op(name, "other", broadcast, call=_joined(symbol), arity=2, commutative=True, broadcasts=True)
        for name, symbol in (("logical_and", "&"), ("logical_or", "|"))
    ),
)

ADD_SCALED = Op(
    "add_scaled",
    "merge",
    broadcast,
    call=lambda node, names: f"torch.add({', '.join(names)}, alpha={node['value']!r})",
    arity=2,
    attributes={"value": 1.0},
    broadcasts=True,
)


ADDCMUL = Op(
    "addcmul",
    "merge",
    broadcast,
    call=lambda node, names: f"torch.addcmul({arguments(names, node, {'value': 1.0})})",
    arity=3,
    attributes={"value": 1.0},
    broadcasts=True,
)


ROWS = (*ACTIVATIONS, *FUNCTIONS, CAST, PRELU, *NUMBERS, CLAMP, *MERGES, ADD_SCALED, ADDCMUL, *RELATIONS)
