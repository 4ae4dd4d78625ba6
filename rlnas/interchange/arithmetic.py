"""How calls of PyTorch functions are written down as nodes: functions of one value, sums, products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rlnas.errors import GraphError
from rlnas.interchange.calls import HANDLERS, handles
from rlnas.interchange.trace import Handler, Traced, Tracer, Value

POINTWISE: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in ("relu", "relu6", "selu", "silu", "mish", "hardswish", "hardsigmoid", "softsign")},
    **{name: (name, {}) for name in ("tanhshrink", "sigmoid", "tanh", "exp", "expm1", "log", "log1p", "sqrt", "rsqrt")},
    **{name: (name, {}) for name in ("square", "reciprocal", "neg", "abs", "sign", "floor", "ceil", "round", "sin")},
    **{name: (name, {}) for name in ("cos", "erf")},
    "logsigmoid": ("log_sigmoid", {}),
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
    x = tracer.value(input)
    if isinstance(min, Tensor) or isinstance(max, Tensor):
        raise GraphError("its bounds are tensors; use torch.minimum and torch.maximum")
    if min is not None and max is not None:
        tracer.emit("clamp", [x], out, like=x, min_val=min, max_val=max)
    elif min is not None:
        tracer.emit("maximum_scalar", [x], out, like=x, value=min)
    else:
        tracer.emit("minimum_scalar", [x], out, like=x, value=max)


@handles("clamp_min")
def _clamp_min(tracer: Tracer, out: Tensor, input: Tensor, min: Any) -> None:
    _clamp(tracer, out, input, min, None)


@handles("clamp_max")
def _clamp_max(tracer: Tracer, out: Tensor, input: Tensor, max: Any) -> None:
    _clamp(tracer, out, input, None, max)


# ------------------------------------------------------------------------------------------------- of two values

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


def combine(tracer: Tracer, op: str, a: Any, b: Any, out: Tensor) -> None:
    """Write down a sum, product or the like of two operands, one of which depends on the input."""
    if tracer.is_traced(a) and tracer.is_traced(b):
        x, y = tracer.value(a, broadcast=True), tracer.value(b, broadcast=True)
        like = _leading(x, y)
        _check_batch(x, y)
        made = tracer.add(op, _full(tracer, (x, y), out, like))
        tracer.result(made, out, like, batch=like.sample.batch + out.dim() - like.rank)
        return
    swapped = not tracer.is_traced(a)
    value, other = (b, a) if swapped else (a, b)
    x = tracer.value(value, broadcast=isinstance(other, Tensor) and other.dim() > 0)
    if not isinstance(other, Tensor) or (other.dim() == 0 and not tracer.is_trained(other)):
        number = other.item() if isinstance(other, Tensor) else other
        if NEUTRAL.get((op, swapped)) == number and out.shape == value.shape:
            tracer.know(out, Traced(tracer.known(value).node, tracer.known(value).positions, out))
            return
        if (op, swapped) not in WITH_NUMBER:
            raise GraphError("a number with a tensor in that order is not known")
        found = tracer.known(value)
        tracer.reads[tracer.emit(WITH_NUMBER[op, swapped], [x], out, like=x, value=number)] = [found]
        return
    if op == "pow":
        raise GraphError("powers of tensors are not known")
    found = tracer.known(value)
    constant = tracer.constant(other, x, rank=out.dim())
    operands: list[Value | str] = [constant, x] if swapped else [x, constant]
    made = tracer.add(op, [v if isinstance(v, str) else v.node for v in operands])
    tracer.result(made, out, x, batch=x.sample.batch + out.dim() - x.rank)
    tracer.reads[made] = [found]


def _leading(x: Value, y: Value) -> Value:
    return x if x.rank >= y.rank else y


def _check_batch(x: Value, y: Value) -> None:
    if x.rank - x.sample.batch != y.rank - y.sample.batch or x.sample.merged != y.sample.merged:
        raise GraphError("its inputs have their batch at different axes")


def _full(tracer: Tracer, values: Sequence[Value], out: Tensor, like: Value) -> list[str]:
    """Ids of operands whose samples broadcast to that of the result; if none is large enough, they are expanded."""
    at = like.sample.batch + out.dim() - like.rank
    sizes = list(out.shape)
    if like.sample.merged > 1:
        sizes[at] = like.sample.merged
    else:
        del sizes[at]
    padded = [(1,) * (len(sizes) - len(v.shape)) + v.shape for v in values]
    reached = [max(column) for column in zip(*padded, strict=True)] if sizes else []
    if reached == sizes:
        return [v.node for v in values]
    shape = tuple(sizes)
    return [tracer.add("expand", (values[0].node,), shape=shape), *[v.node for v in values[1:]]]


def _binary(op: str, *, swap: bool = False) -> Handler:
    def handler(tracer: Tracer, name: str, args: Sequence[Any], kwargs: dict[str, Any], out: Tensor) -> None:
        operands = [*args, *[kwargs[k] for k in ("input", "other", "exponent") if k in kwargs]]
        alpha = kwargs.get("alpha", 1)
        if kwargs.get("rounding_mode") is not None:
            raise GraphError("division with rounding is not known")
        a, b = operands[:2]
        if len(operands) > 2:
            alpha = operands[2]
        if alpha != 1:
            if not tracer.is_traced(b):
                b = b * alpha
            else:
                scaled = torch.mul(b, alpha)
                combine(tracer, "mul", b, alpha, scaled)
                b = scaled
        if swap:
            a, b = b, a
        combine(tracer, op, a, b, out)

    return handler


for _name, _op in {
    **{name: "add" for name in ("add", "iadd")},
    **{name: "sub" for name in ("sub", "subtract", "isub")},
    **{name: "mul" for name in ("mul", "multiply", "imul")},
    **{name: "div" for name in ("div", "divide", "true_divide", "truediv", "itruediv")},
    **{name: "pow" for name in ("pow", "ipow")},
    "maximum": "maximum",
    "minimum": "minimum",
}.items():
    HANDLERS[_name] = _binary(_op)
for _name, _op in {"radd": "add", "rsub": "sub", "rmul": "mul", "rdiv": "div", "rtruediv": "div"}.items():
    HANDLERS[_name] = _binary(_op, swap=True)
