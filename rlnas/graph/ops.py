"""The op table: everything the library knows of each kind of operation. A new op is one row."""

from __future__ import annotations

import math
from typing import Any

from rlnas.errors import GraphError
from rlnas.graph.attributes import ATTRIBUTES
from rlnas.graph.node import Node, Shape
from rlnas.graph.op import REQUIRED, ChannelRule, Op, Param, Params

OPS: dict[str, Op] = {}


def _add(op: Op) -> None:
    assert op.name not in OPS and (op.source is None) != (op.call is None) and set(op.attributes) <= set(ATTRIBUTES)
    OPS[op.name] = op


def is_depthwise(node: Node, shapes: tuple[Shape, ...]) -> bool:
    """True for a convolution with one filter a channel (with a single channel it counts as dense)."""
    return bool(node.op == "conv2d" and node["groups"] > 1 and node["groups"] == shapes[0][0] == node["out_channels"])


def n_blocks(node: Node, shapes: tuple[Shape, ...]) -> int:
    """Blocks of a grouped convolution, each of which reads its share of the input only; 1 for every other layer."""
    groups: int = node["groups"] if OPS[node.op].channels(node, shapes) == "grouped" else 1
    return groups


def _image(node: Node, shape: Shape) -> tuple[int, int, int]:
    if len(shape) != 3:
        raise GraphError(f"{node.op} {node.id} needs an input of (channels, height, width), got {shape}")
    return shape[0], shape[1], shape[2]


def _window(node: Node, size: int, axis: int, *, ceil: bool = False) -> int:
    dilation: int = node["dilation"][axis] if node.op == "conv2d" else 1
    padding: int = node["padding"][axis]
    stride: int = node["stride"][axis]
    span: int = dilation * (node["kernel_size"][axis] - 1) + 1
    free = size + 2 * padding - span
    out = (-(-free // stride) if ceil else free // stride) + 1
    if ceil and (out - 1) * stride >= size + padding:
        out -= 1
    if free < 0 or out < 1:
        raise GraphError(f"{node.op} {node.id}: a window of {span} does not fit into {size} + 2 x {padding}")
    return out


# ------------------------------------------------------------------------------------------------ text of arguments


def _pair(value: tuple[int, int]) -> str:
    return str(value[0]) if value[0] == value[1] else str(tuple(value))


def _arguments(first: list[str], node: Node, defaults: dict[str, Any]) -> str:
    words = list(first)
    for name, default in defaults.items():
        value = node[name]
        if value != default:
            words.append(f"{name}={_pair(value) if isinstance(value, tuple) else repr(value)}")
    return ", ".join(words)


# --------------------------------------------------------------------------------------------------------- the rows


_add(
    Op(
        "input",
        "input",
        lambda node, shapes: node["shape"],
        call=lambda node, names: node.id,
        arity=0,
        attributes={"shape": REQUIRED},
        channels=lambda node, shapes: "fixed",
    )
)


def _conv_shape(node: Node, shapes: tuple[Shape, ...]) -> Shape:
    channels, height, width = _image(node, shapes[0])
    groups, out = node["groups"], node["out_channels"]
    if channels % groups or out % groups:
        raise GraphError(f"conv2d {node.id}: groups={groups} must divide {channels} inputs and {out} outputs")
    return out, _window(node, height, 0), _window(node, width, 1)


def _conv_params(node: Node, shapes: tuple[Shape, ...]) -> Params:
    out = node["out_channels"]
    weight = (out, shapes[0][0] // node["groups"], *node["kernel_size"])
    params = {"weight": Param(weight, ("out", None if is_depthwise(node, shapes) else "in", None, None), "weight")}
    if node["bias"]:
        params["bias"] = Param((out,), ("out",), "bias")
    return params


def _conv_channels(node: Node, shapes: tuple[Shape, ...]) -> ChannelRule:
    if node["groups"] == 1:
        return "fresh"
    return "same" if is_depthwise(node, shapes) else "grouped"


def _conv_source(node: Node, shapes: tuple[Shape, ...]) -> str:
    first = [str(shapes[0][0]), str(node["out_channels"]), _pair(node["kernel_size"])]
    rest = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1, "bias": True}
    return f"nn.Conv2d({_arguments(first, node, rest)})"


_add(
    Op(
        "conv2d",
        "conv",
        _conv_shape,
        source=_conv_source,
        attributes={
            "out_channels": REQUIRED,
            "kernel_size": REQUIRED,
            "stride": (1, 1),
            "padding": (0, 0),
            "dilation": (1, 1),
            "groups": 1,
            "bias": True,
        },
        params=_conv_params,
        macs=lambda node, shapes, out: math.prod(out) * shapes[0][0] // node["groups"] * math.prod(node["kernel_size"]),
        channels=_conv_channels,
    )
)


def _norm_params(node: Node, shapes: tuple[Shape, ...]) -> Params:
    size = (shapes[0][0],)
    return {
        "weight": Param(size, ("out",), "one"),
        "bias": Param(size, ("out",), "zero"),
        "running_mean": Param(size, ("out",), "zero", trained=False),
        "running_var": Param(size, ("out",), "one", trained=False),
        "num_batches_tracked": Param((), (), "count", trained=False),
    }


def _norm_shape(node: Node, shapes: tuple[Shape, ...]) -> Shape:
    return _image(node, shapes[0])


_add(
    Op(
        "batch_norm2d",
        "norm",
        _norm_shape,
        source=lambda node, shapes: (
            f"nn.BatchNorm2d({_arguments([str(shapes[0][0])], node, {'eps': 1e-5, 'momentum': 0.1})})"
        ),
        attributes={"eps": 1e-5, "momentum": 0.1},
        params=_norm_params,
    )
)


def _linear_params(node: Node, shapes: tuple[Shape, ...]) -> Params:
    out = node["out_channels"]
    params = {"weight": Param((out, shapes[0][0]), ("out", "in"), "weight")}
    if node["bias"]:
        params["bias"] = Param((out,), ("out",), "bias")
    return params


def _linear_shape(node: Node, shapes: tuple[Shape, ...]) -> Shape:
    if len(shapes[0]) != 1:
        raise GraphError(f"linear {node.id} needs an input of (features,), got {shapes[0]}; flatten it first")
    return (node["out_channels"],)


_add(
    Op(
        "linear",
        "linear",
        _linear_shape,
        source=lambda node, shapes: (
            f"nn.Linear({_arguments([str(shapes[0][0]), str(node['out_channels'])], node, {'bias': True})})"
        ),
        attributes={"out_channels": REQUIRED, "bias": True},
        params=_linear_params,
        macs=lambda node, shapes, out: shapes[0][0] * out[0],
        channels=lambda node, shapes: "fresh",
    )
)


def _activation(name: str, function: str, *, idempotent: bool = False, **attributes: Any) -> None:
    def call(node: Node, names: tuple[str, ...]) -> str:
        return f"{function}({_arguments([names[0]], node, attributes)})"

    _add(
        Op(name, "activation", lambda node, shapes: shapes[0], call=call, attributes=attributes, idempotent=idempotent)
    )


_activation("relu", "F.relu", idempotent=True)
_activation("relu6", "F.relu6", idempotent=True)
_activation("leaky_relu", "F.leaky_relu", negative_slope=0.01)
_activation("elu", "F.elu", alpha=1.0)
_activation("silu", "F.silu")
_activation("gelu", "F.gelu", approximate="none")
_activation("mish", "F.mish")
_activation("hardswish", "F.hardswish")
_activation("hardsigmoid", "F.hardsigmoid")
_activation("sigmoid", "torch.sigmoid")
_activation("tanh", "torch.tanh")


def _add_shape(node: Node, shapes: tuple[Shape, ...]) -> Shape:
    if len(set(shapes)) != 1:
        raise GraphError(f"add {node.id}: its inputs have different shapes {', '.join(map(str, shapes))}")
    return shapes[0]


def _concat_shape(node: Node, shapes: tuple[Shape, ...]) -> Shape:
    if len({shape[1:] for shape in shapes}) != 1 or len({len(shape) for shape in shapes}) != 1:
        raise GraphError(f"concat {node.id}: sizes beside the channels differ: {', '.join(map(str, shapes))}")
    return (sum(shape[0] for shape in shapes), *shapes[0][1:])


_add(
    Op(
        "add",
        "merge",
        _add_shape,
        call=lambda node, names: " + ".join(names),
        arity=None,
        commutative=True,
    )
)
_add(
    Op(
        "concat",
        "merge",
        _concat_shape,
        call=lambda node, names: f"torch.cat([{', '.join(names)}], dim=1)",
        arity=None,
        channels=lambda node, shapes: "concat",
    )
)


def _pool(name: str, extra: dict[str, Any]) -> None:
    def shape(node: Node, shapes: tuple[Shape, ...]) -> Shape:
        channels, height, width = _image(node, shapes[0])
        if any(2 * p > k for p, k in zip(node["padding"], node["kernel_size"], strict=True)):
            raise GraphError(f"{name} {node.id}: padding {node['padding']} is more than half of its kernel")
        ceil = node["ceil_mode"]
        return channels, _window(node, height, 0, ceil=ceil), _window(node, width, 1, ceil=ceil)

    def call(node: Node, names: tuple[str, ...]) -> str:
        words = [names[0], _pair(node["kernel_size"])]
        if node["stride"] != node["kernel_size"]:
            words.append(f"stride={_pair(node['stride'])}")
        rest = {"padding": (0, 0), "ceil_mode": False, **extra}
        return f"F.{name}({_arguments(words, node, rest)})"

    attributes = {"kernel_size": REQUIRED, "stride": REQUIRED, "padding": (0, 0), "ceil_mode": False, **extra}
    _add(Op(name, "pool", shape, call=call, attributes=attributes))


_pool("max_pool2d", {})
_pool("avg_pool2d", {"count_include_pad": True})


def _adaptive_shape(node: Node, shapes: tuple[Shape, ...]) -> Shape:
    return (_image(node, shapes[0])[0], *node["output_size"])


_add(
    Op(
        "adaptive_avg_pool2d",
        "pool",
        _adaptive_shape,
        call=lambda node, names: f"F.adaptive_avg_pool2d({names[0]}, {_pair(node['output_size'])})",
        attributes={"output_size": (1, 1)},
    )
)
_add(
    Op(
        "flatten",
        "other",
        lambda node, shapes: (math.prod(shapes[0]),),
        call=lambda node, names: f"torch.flatten({names[0]}, 1)",
        channels=lambda node, shapes: "flatten",
        view=True,
    )
)


_add(
    Op(
        "dropout",
        "other",
        lambda node, shapes: shapes[0],
        source=lambda node, shapes: f"nn.Dropout({node['p']!r})",
        attributes={"p": 0.5},
    )
)
_add(Op("identity", "other", lambda node, shapes: shapes[0], call=lambda node, names: names[0], view=True))
