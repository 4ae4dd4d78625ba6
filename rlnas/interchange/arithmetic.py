"""How calls of PyTorch functions are written down as nodes: functions of one value, sums, products."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rlnas.errors import GraphError
from rlnas.interchange.calls import HANDLERS, handles
from rlnas.interchange.moving import aligned, full_shape
from rlnas.interchange.trace import Handler, Tracer
from rlnas.interchange.values import Value

POINTWISE: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in ("relu", "relu6", "selu", "silu", "mish", "hardswish", "hardsigmoid", "softsign")},
    **{name: (name, {}) for name in ("tanhshrink", "sigmoid", "tanh", "exp", "expm1", "log", "log1p", "sqrt", "rsqrt")},
    **{name: (name, {}) for name in ("square", "reciprocal", "neg", "abs", "sign", "floor", "ceil", "round", "sin")},
    **{name: (name, {}) for name in ("cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "erf", "erfc", "trunc")},
    **{name: (name, {}) for name in ("log2", "log10", "exp2", "logical_not", "isnan")},
    "log_sigmoid": ("log_sigmoid", {}),
    "logsigmoid": ("log_sigmoid", {}),
    "bitwise_not": ("logical_not", {}),
    "invert": ("logical_not", {}),
    "arcsin": ("asin", {}),
    "arccos": ("acos", {}),
    "arctan": ("atan", {}),
    "special_erf": ("erf", {}),
    "special_expit": ("sigmoid", {}),
    "hardshrink": ("hardshrink", {"lambd": 0.5}),
    "softshrink": ("softshrink", {"lambd": 0.5}),
    "threshold": ("threshold", {"threshold": 0.0, "value": 0.0}),
    "negative": ("neg", {}),
    "leaky_relu": ("leaky_relu", {"negative_slope": 0.01}),
    "elu": ("elu", {"alpha": 1.0}),
    "celu": ("celu", {"alpha": 1.0}),
    "gelu": ("gelu", {"approximate": "none"}),
    "hardtanh": ("hardtanh", {"min_val": -1.0, "max_val": 1.0}),
    "softplus": ("softplus", {"beta": 1.0, "threshold": 20.0}),
}
"""Op and attributes of each function, in the order in which it takes them after its input."""


def _pointwise(name: str) -> Handler:
    op, defaults = POINTWISE[name]

    def handler(tracer: Tracer, name: str, args: Sequence[Any], kwargs: dict[str, Any], out: Tensor) -> None:
        x = tracer.value(args[0] if args else kwargs["input"], broadcast=False)
        given = dict(zip(defaults, args[1:], strict=False)) | {k: v for k, v in kwargs.items() if k in defaults}
        attrs = {k: type(defaults[k])(v) for k, v in given.items()}
        tracer.emit(op, [x], out, like=x, **(defaults | attrs))

    return handler


for _name in POINTWISE:
    HANDLERS[_name] = _pointwise(_name)


@handles("clamp", "clip")
def _clamp(tracer: Tracer, out: Tensor, input: Tensor, min: Any = None, max: Any = None) -> None:
    bounds = [("maximum", min), ("minimum", max)]
    if any(isinstance(bound, Tensor) and (bound.dim() or tracer.is_traced(bound)) for _, bound in bounds):
        for op, bound in bounds:
            if bound is not None:
                made = out if op == "minimum" or max is None else torch.clamp(input, min=bound)
                combine(tracer, op, input, bound, made)
                input = made
        return
    x = tracer.value(input)
    if min is not None and max is not None:
        tracer.emit("clamp", [x], out, like=x, min_val=float(min), max_val=float(max))
    elif min is not None:
        tracer.emit("maximum_scalar", [x], out, like=x, value=float(min))
    else:
        tracer.emit("minimum_scalar", [x], out, like=x, value=float(max))


@handles("clamp_min")
def _clamp_min(tracer: Tracer, out: Tensor, input: Tensor, min: Any) -> None:
    _clamp(tracer, out, input, min, None)


@handles("clamp_max")
def _clamp_max(tracer: Tracer, out: Tensor, input: Tensor, max: Any) -> None:
    _clamp(tracer, out, input, None, max)


# ------------------------------------------------------------------------------------------------- of two values

SWAPPED = {"gt": "lt", "lt": "gt", "ge": "le", "le": "ge", "eq": "eq", "ne": "ne"}
"""What each comparison becomes if its sides change places."""

WITH_NUMBER = {
    ("add", False): "add_scalar",
    ("add", True): "add_scalar",
    ("sub", False): "sub_scalar",
    ("sub", True): "rsub_scalar",
    ("mul", False): "mul_scalar",
    ("mul", True): "mul_scalar",
    ("div", False): "div_scalar",
    ("div", True): "rdiv_scalar",
    ("pow", False): "pow_scalar",
    ("maximum", False): "maximum_scalar",
    ("minimum", False): "minimum_scalar",
    ("maximum", True): "maximum_scalar",
    ("minimum", True): "minimum_scalar",
    ("remainder", False): "remainder_scalar",
    ("floor_divide", False): "floor_divide_scalar",
    **{(name, False): f"{name}_scalar" for name in ("gt", "lt", "ge", "le", "eq", "ne")},
    **{(name, True): f"{swapped}_scalar" for name, swapped in SWAPPED.items()},
}
"""Op for a value and a number, by the function and whether the number comes first."""


NEUTRAL = {
    ("add", False): 0,
    ("add", True): 0,
    ("sub", False): 0,
    ("mul", False): 1,
    ("mul", True): 1,
    ("div", False): 1,
    ("pow", False): 1,
}
"""The number that changes nothing."""


def combine(tracer: Tracer, op: str, a: Any, b: Any, out: Tensor, **attrs: Any) -> None:
    """Write down a sum, product or the like of two operands, one of which depends on the input."""
    if tracer.is_traced(a) and tracer.is_traced(b):
        x, y = tracer.value(a, broadcast=True), tracer.value(b, broadcast=True)
        like = x if x.rank >= y.rank else y
        aligned(tracer, x, y)
        made = tracer.add(op, full_shape(tracer, (x, y), out, like), **attrs)
        tracer.result(made, out, like, batch=like.sample.batch + out.dim() - like.rank)
        return
    swapped = not tracer.is_traced(a)
    value, other = (b, a) if swapped else (a, b)
    if not isinstance(other, Tensor) or (other.dim() == 0 and not tracer.is_trained(other)):
        number = other.item() if isinstance(other, Tensor) else other
        if NEUTRAL.get((op, swapped)) == number and (out.shape, out.dtype) == (value.shape, value.dtype) and not attrs:
            tracer.alias(out, value)
            return
        if (op, swapped) in WITH_NUMBER and abs(number) != math.inf and not attrs:
            x, found = tracer.value(value), tracer.known(value)
            tracer.reads[tracer.emit(WITH_NUMBER[op, swapped], [x], out, like=x, value=float(number))] = [found]
            return
        other = torch.as_tensor(number, dtype=out.dtype)
    x = tracer.value(value, broadcast=True)
    found = tracer.known(value)
    constant = tracer.constant(other, x, rank=out.dim())
    operands: list[Value | str] = [constant, x] if swapped else [x, constant]
    made = tracer.add(op, full_shape(tracer, operands, out, x), **attrs)
    tracer.result(made, out, x, batch=x.sample.batch + out.dim() - x.rank)
    tracer.reads[made] = [found]


def _binary(op: str, *, swap: bool = False) -> Handler:
    def handler(tracer: Tracer, name: str, args: Sequence[Any], kwargs: dict[str, Any], out: Tensor) -> None:
        operands = [*args, *[kwargs[k] for k in ("input", "self", "other", "exponent") if k in kwargs]]
        alpha = kwargs.get("alpha", operands[2] if len(operands) > 2 else 1)
        rounding = kwargs.get("rounding_mode")
        if rounding not in (None, "floor"):
            raise GraphError(f"division with rounding_mode={rounding!r} is not known")
        a, b = operands[:2]
        if swap:
            a, b = b, a
        if alpha == 1:
            combine(tracer, op if rounding is None else "floor_divide", a, b, out)
        elif not isinstance(b, Tensor):
            combine(tracer, op, a, b * alpha, out)
        else:
            combine(tracer, "add_scaled", a, b, out, value=float(alpha if op == "add" else -alpha))

    return handler


@handles("addcmul")
def _addcmul(tracer: Tracer, out: Tensor, input: Tensor, tensor1: Tensor, tensor2: Tensor, value: Any = 1) -> None:
    given = [input, tensor1, tensor2]
    like = max((tracer.value(t, broadcast=True) for t in given if tracer.is_traced(t)), key=lambda v: v.rank)
    operands: list[Value | str] = [
        aligned(tracer, tracer.value(t, broadcast=True), like)
        if tracer.is_traced(t)
        else tracer.constant(t, like, rank=out.dim())
        for t in given
    ]
    made = tracer.add("addcmul", full_shape(tracer, operands, out, like), value=float(value))
    tracer.result(made, out, like, batch=like.sample.batch + out.dim() - like.rank)


for _name, _op in {
    **{name: "add" for name in ("add", "iadd")},
    **{name: "sub" for name in ("sub", "subtract", "isub")},
    **{name: "mul" for name in ("mul", "multiply", "imul")},
    **{name: "div" for name in ("div", "divide", "true_divide", "truediv", "itruediv")},
    **{name: "pow" for name in ("pow", "ipow")},
    **{name: name for name in ("maximum", "minimum", "remainder", "floor_divide", "gt", "lt", "ge", "le", "eq", "ne")},
    **{name: "remainder" for name in ("mod", "imod")},
    **{name: "floor_divide" for name in ("floordiv", "ifloordiv")},
    **{name: "logical_and" for name in ("and", "iand", "bitwise_and", "logical_and")},
    **{name: "logical_or" for name in ("or", "ior", "bitwise_or", "logical_or")},
    "fmax": "maximum",
    "greater": "gt",
    "less": "lt",
    "greater_equal": "ge",
    "less_equal": "le",
    "fmin": "minimum",
    "float_power": "pow",
}.items():
    HANDLERS[_name] = _binary(_op)
for _name, _op in {
    "radd": "add",
    "rsub": "sub",
    "rmul": "mul",
    "rdiv": "div",
    "rtruediv": "div",
    "rpow": "pow",
}.items():
    HANDLERS[_name] = _binary(_op, swap=True)
