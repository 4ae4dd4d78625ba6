"""Rows of the op table: input, tensors of the network's own, and layers that mix all they read."""

from __future__ import annotations

import math
from typing import Any

from rlnas.errors import GraphError
from rlnas.graph.flow import FROZEN, Flow
from rlnas.graph.node import Node, Shape
from rlnas.graph.op import REQUIRED, Op, Param, Params, Shapes
from rlnas.graph.table.text import arguments, sizes
from rlnas.graph.table.windows import window

DIGIT = {1: "1d", 2: "2d", 3: "3d"}


def is_depthwise(node: Node, shapes: Shapes) -> bool:
    """True for a convolution with one filter a channel (with a single channel it counts as dense)."""
    return bool(
        node.op in ("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
        and node["groups"] > 1
        and node["groups"] == shapes[0][0] == node["out_channels"]
    )


def n_blocks(node: Node, shapes: Shapes) -> int:
    """Blocks of a grouped convolution, each of which reads its share of the input only; 1 for every other layer."""
    grouped = node.op in ("conv1d", "conv2d", "conv3d") and not is_depthwise(node, shapes)
    return int(node["groups"]) if grouped else 1


def _other_outputs(node: Node, old: Shape, new: Shape) -> Node:
    return node.replace(out_channels=new[0])


# ----------------------------------------------------------------------------------------------------- convolutions


def _convolution(n: int) -> Op:
    name, ones = f"conv{DIGIT[n]}", (1,) * n

    def shape(node: Node, shapes: Shapes) -> Shape:
        channels, *places = spatial(node, shapes[0], n)
        groups, out = node["groups"], node["out_channels"]
        if channels % groups or out % groups:
            raise GraphError(f"{name} {node.id}: groups={groups} must divide {channels} inputs and {out} outputs")
        return out, *(window(node, size, axis) for axis, size in enumerate(places))

    def params(node: Node, shapes: Shapes) -> Params:
        out, reads = node["out_channels"], shapes[0][0] // node["groups"]
        weight = (out, reads, *node["kernel_size"])
        axes = ("out", None if is_depthwise(node, shapes) else "in", *[None] * n)
        found = {"weight": Param(weight, axes, "weight", fan_in=math.prod(weight[1:]))}
        if node["bias"]:
            found["bias"] = Param((out,), ("out",), "bias")
        return found

    def flow(node: Node, shapes: Shapes, out: Shape) -> Flow:
        if is_depthwise(node, shapes):
            return Flow("channelwise")
        return Flow("layer", blocks=node["groups"])

    rest = {"stride": ones, "padding": (0,) * n, "dilation": ones, "groups": 1, "bias": True, "padding_mode": "zeros"}

    def source(node: Node, shapes: Shapes) -> str:
        first = [str(shapes[0][0]), str(node["out_channels"]), sizes(node["kernel_size"])]
        return f"nn.Conv{DIGIT[n]}({arguments(first, node, rest)})"

    return Op(
        name,
        "conv",
        shape,
        source=source,
        attributes={"out_channels": REQUIRED, "kernel_size": REQUIRED, **rest},
        params=params,
        macs=lambda node, shapes, out: math.prod(out) * shapes[0][0] // node["groups"] * math.prod(node["kernel_size"]),
        flow=flow,
        resized=_other_outputs,
    )


def spatial(node: Node, shape: Shape, n: int) -> Shape:
    """A shape that must be (channels, n sizes)."""
    if len(shape) != n + 1:
        wanted = ("length", "height, width", "depth, height, width")[n - 1]
        raise GraphError(f"{node.op} {node.id} needs an input of (channels, {wanted}), got {shape}")
    return shape


def _transposed(n: int) -> Op:
    ones, zeros = (1,) * n, (0,) * n
    rest = {
        "stride": ones,
        "padding": zeros,
        "output_padding": zeros,
        "groups": 1,
        "bias": True,
        "dilation": ones,
    }

    def shape(node: Node, shapes: Shapes) -> Shape:
        channels, *places = spatial(node, shapes[0], n)
        groups, out = node["groups"], node["out_channels"]
        if channels % groups or out % groups:
            raise GraphError(f"{node.op} {node.id}: groups={groups} must divide {channels} inputs and {out} outputs")
        made = [
            (size - 1) * node["stride"][i]
            - 2 * node["padding"][i]
            + node["dilation"][i] * (node["kernel_size"][i] - 1)
            + node["output_padding"][i]
            + 1
            for i, size in enumerate(places)
        ]
        if min(made) < 1:
            raise GraphError(f"{node.op} {node.id}: nothing is left of a map of {tuple(places)}")
        return out, *made

    def params(node: Node, shapes: Shapes) -> Params:
        out, groups, reads = node["out_channels"], node["groups"], shapes[0][0]
        weight = (reads, out // groups, *node["kernel_size"])
        axes: tuple[str | None, ...] = ("in", "out", *[None] * n) if groups == 1 else (None,) * (n + 2)
        if is_depthwise(node, shapes):
            axes = ("out", *[None] * (n + 1))
        found = {"weight": Param(weight, axes, "weight", fan_in=math.prod(weight) // out)}
        if node["bias"]:
            found["bias"] = Param((out,), ("out",), "bias")
        return found

    def flow(node: Node, shapes: Shapes, out: Shape) -> Flow:
        if is_depthwise(node, shapes):
            return Flow("channelwise")
        return Flow("layer") if node["groups"] == 1 else FROZEN

    def source(node: Node, shapes: Shapes) -> str:
        first = [str(shapes[0][0]), str(node["out_channels"]), sizes(node["kernel_size"])]
        return f"nn.ConvTranspose{DIGIT[n]}({arguments(first, node, rest)})"

    return Op(
        f"conv_transpose{DIGIT[n]}",
        "conv",
        shape,
        source=source,
        attributes={"out_channels": REQUIRED, "kernel_size": REQUIRED, **rest},
        params=params,
        macs=lambda node, shapes, out: math.prod(shapes[0]) * out[0] // node["groups"] * math.prod(node["kernel_size"]),
        flow=flow,
        resized=_other_outputs,
    )


# ------------------------------------------------------------------------------------------- linear layers, embeddings


def _linear_params(node: Node, shapes: Shapes) -> Params:
    out, reads = node["out_channels"], shapes[0][-1]
    params = {"weight": Param((out, reads), ("out", "in"), "weight", fan_in=reads)}
    if node["bias"]:
        params["bias"] = Param((out,), ("out",), "bias")
    return params


def _last_out(node: Node, old: Shape, new: Shape) -> Node:
    return node.replace(out_channels=new[-1])


def _linear_source(node: Node, shapes: Shapes) -> str:
    return f"nn.Linear({arguments([str(shapes[0][-1]), str(node['out_channels'])], node, {'bias': True})})"


LINEAR = Op(
    "linear",
    "linear",
    lambda node, shapes: (*shapes[0][:-1], node["out_channels"]),
    source=_linear_source,
    attributes={"out_channels": REQUIRED, "bias": True},
    params=_linear_params,
    macs=lambda node, shapes, out: math.prod(out) * shapes[0][-1],
    flow=lambda node, shapes, out: Flow("layer", axis=len(out) - 1, others=True),
    resized=_last_out,
)

EMBEDDING = Op(
    "embedding",
    "embedding",
    lambda node, shapes: (*shapes[0], node["out_channels"]),
    source=lambda node, shapes: f"nn.Embedding({node['num_embeddings']}, {node['out_channels']})",
    attributes={"num_embeddings": REQUIRED, "out_channels": REQUIRED},
    params=lambda node, shapes: {
        "weight": Param((node["num_embeddings"], node["out_channels"]), (None, "out"), "weight", fan_in=600)
    },
    flow=lambda node, shapes, out: Flow("layer", axis=len(out) - 1),
    resized=_last_out,
)


# ---------------------------------------------------------------------------------------------- inputs and parameters


def _input_shape(node: Node, shapes: Shapes) -> Shape:
    shape: Shape = node["shape"]
    if not shape:
        raise GraphError(f"input {node.id}: shape=() has no axis")
    return shape


def _parameter_source(node: Node, shapes: Shapes) -> str:
    size = ", ".join(map(str, node["shape"]))
    if node["trained"]:
        return f"nn.Parameter(torch.zeros({size or '()'}))"
    return f"nn.Buffer(torch.zeros({size or '()'}{dtype_argument(node)}))"


def dtype_argument(node: Node) -> str:
    """``, dtype=...`` for what is not of the default type."""
    return "" if node["dtype"] == "float32" else f", dtype=torch.{node['dtype']}"


def _parameter_params(node: Node, shapes: Shapes) -> Params:
    axes: list[str | None] = [None] * len(node["shape"])
    if node["axis"]:
        axes[node["axis"]] = "out"
    init: Any = {"float32": "bias", "int64": "index", "bool": "mask"}[node["dtype"]]
    return {"": Param(node["shape"], tuple(axes), init, trained=node["trained"])}


def _parameter_shape(node: Node, shapes: Shapes) -> Shape:
    if node["axis"] and not -len(node["shape"]) <= node["axis"] < 0:
        raise GraphError(f"parameter {node.id}: axis={node['axis']} of a tensor of shape {node['shape']}")
    if node["trained"] and node["dtype"] != "float32":
        raise GraphError(f"parameter {node.id}: only a tensor of floating-point values can be trained")
    shape: Shape = node["shape"]
    return shape


ROWS = (
    Op(
        "input",
        "input",
        _input_shape,
        call=lambda node, names: node.id,
        arity=0,
        attributes={"shape": REQUIRED, "dtype": "float32"},
        flow=lambda node, shapes, out: FROZEN,
    ),
    Op(
        "parameter",
        "embedding",
        _parameter_shape,
        source=_parameter_source,
        arity=0,
        attributes={"shape": REQUIRED, "axis": 0, "trained": True, "dtype": "float32"},
        params=_parameter_params,
        flow=lambda node, shapes, out: Flow("layer", axis=len(out) + node["axis"]) if node["axis"] else FROZEN,
        resized=lambda node, old, new: node.replace(shape=new),
    ),
    _convolution(1),
    _convolution(2),
    _convolution(3),
    *map(_transposed, (1, 2, 3)),
    LINEAR,
    EMBEDDING,
)
