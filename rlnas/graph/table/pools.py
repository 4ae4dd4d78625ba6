"""Rows of the op table: pooling, reductions and what else works along some axes."""

from __future__ import annotations

import math
from typing import Any

from rlnas.errors import GraphError
from rlnas.graph.flow import FROZEN, Flow
from rlnas.graph.node import Node, Shape
from rlnas.graph.op import REQUIRED, Op, Shapes
from rlnas.graph.table.layers import DIGIT, spatial
from rlnas.graph.table.text import arguments, dim, sizes
from rlnas.graph.table.windows import window


def _pool(kind: str, n: int) -> Op:
    name, ones, zeros = f"{kind}_pool{DIGIT[n]}", (1,) * n, (0,) * n
    extra: dict[str, Any] = {"count_include_pad": True} if kind == "avg" else {"dilation": ones}

    def shape(node: Node, shapes: Shapes) -> Shape:
        channels, *places = spatial(node, shapes[0], n)
        if any(2 * p > k for p, k in zip(node["padding"], node["kernel_size"], strict=True)):
            raise GraphError(f"{name} {node.id}: padding {node['padding']} is more than half of its kernel")
        return channels, *(window(node, size, axis, ceil=node["ceil_mode"]) for axis, size in enumerate(places))

    def call(node: Node, names: tuple[str, ...]) -> str:
        words = [names[0], sizes(node["kernel_size"])]
        if node["stride"] != node["kernel_size"]:
            words.append(f"stride={sizes(node['stride'])}")
        return f"F.{name}({arguments(words, node, {'padding': zeros, 'ceil_mode': False, **extra})})"

    attributes = {"kernel_size": REQUIRED, "stride": REQUIRED, "padding": zeros, "ceil_mode": False, **extra}
    flow = Flow("channelwise")
    return Op(name, "pool", shape, call=call, attributes=attributes, flow=lambda node, shapes, out: flow)


def _adaptive(kind: str, n: int) -> Op:
    def shape(node: Node, shapes: Shapes) -> Shape:
        return spatial(node, shapes[0], n)[0], *node["output_size"]

    return Op(
        f"adaptive_{kind}_pool{DIGIT[n]}",
        "pool",
        shape,
        call=lambda node, names: f"F.adaptive_{kind}_pool{DIGIT[n]}({names[0]}, {sizes(node['output_size'])})",
        attributes={"output_size": (1,) * n},
        flow=lambda node, shapes, out: Flow("channelwise"),
    )


def _reduce_shape(node: Node, shapes: Shapes) -> Shape:
    axes = node["axes"]
    if not axes or len(set(axes)) < len(axes) or max(axes) >= len(shapes[0]):
        raise GraphError(f"reduce {node.id}: axes={axes} of a value of shape {shapes[0]}")
    kept = [1 if i in axes else size for i, size in enumerate(shapes[0]) if node["keepdim"] or i not in axes]
    return tuple(kept)


def _reduce_call(node: Node, names: tuple[str, ...]) -> str:
    name = {"max": "amax", "min": "amin"}.get(node["kind"], node["kind"])
    axes = [dim(a) for a in node["axes"]]
    where = str(axes[0]) if len(axes) == 1 else str(tuple(axes))
    more = "" if node["unbiased"] or name not in ("var", "std") else ", correction=0"
    where = f"dim={where}" if name == "norm" else where
    return f"{names[0]}.{name}({where}{', keepdim=True' if node['keepdim'] else ''}{more})"


def _resized_map(node: Node, shapes: Shapes) -> Shape:
    size, scale = node["size"], node["scale"]
    if scale and size != tuple([math.floor(places * scale) for places in shapes[0][1:]]):
        raise GraphError(f"interpolate {node.id}: size={size} is not {scale} times that of {shapes[0]}")
    return (shapes[0][0], *size)


def _softmax(name: str) -> Op:
    def shape(node: Node, shapes: Shapes) -> Shape:
        if node["axis"] >= len(shapes[0]):
            raise GraphError(f"{name} {node.id}: axis={node['axis']} of a value of shape {shapes[0]}")
        return shapes[0]

    return Op(
        name,
        "attention",
        shape,
        call=lambda node, names: f"F.{name}({names[0]}, dim={dim(node['axis'])})",
        attributes={"axis": REQUIRED},
        flow=lambda node, shapes, out: Flow("along", axes=(node["axis"],)),
    )


def _matmul_shape(node: Node, shapes: Shapes) -> Shape:
    a, b = shapes
    if len(a) < 2 or len(b) < 2 or a[-1] != b[-2]:
        raise GraphError(f"matmul {node.id}: {a} and {b} do not fit")
    lead_a, lead_b = a[:-2], b[:-2]
    rank = max(len(lead_a), len(lead_b))
    pairs = list(zip((1,) * (rank - len(lead_a)) + lead_a, (1,) * (rank - len(lead_b)) + lead_b, strict=True))
    if any(x != y and 1 not in (x, y) for x, y in pairs):
        raise GraphError(f"matmul {node.id}: {a} and {b} do not fit")
    return *(max(pair) for pair in pairs), a[-2], b[-1]


def _letters(node: Node, shapes: Shapes) -> dict[str, int]:
    """Sizes by the letters of an equation, without that of the batch, which comes first everywhere."""
    left = node["text"].split("->")[0].split(",")
    if len(left) != len(shapes) or any(len(word) != len(shape) + 1 for word, shape in zip(left, shapes, strict=True)):
        raise GraphError(f"einsum {node.id}: {node['text']!r} does not suit values of shape {shapes}")
    return {c: size for word, shape in zip(left, shapes, strict=True) for c, size in zip(word[1:], shape, strict=True)}


ROWS = (
    *(_pool(kind, n) for kind in ("max", "avg") for n in (1, 2, 3)),
    *(_adaptive(kind, n) for kind in ("avg", "max") for n in (1, 2, 3)),
    Op(
        "reduce",
        "pool",
        _reduce_shape,
        call=_reduce_call,
        attributes={"kind": REQUIRED, "axes": REQUIRED, "keepdim": False, "unbiased": True},
        flow=lambda node, shapes, out: Flow("along", axes=node["axes"], kept=node["keepdim"]),
    ),
    _softmax("softmax"),
    _softmax("log_softmax"),
    Op(
        "matmul",
        "attention",
        _matmul_shape,
        call=lambda node, names: f"{names[0]} @ {names[1]}",
        arity=2,
        macs=lambda node, shapes, out: math.prod(out) * shapes[0][-1],
        flow=lambda node, shapes, out: Flow("matmul"),
        broadcasts=True,
    ),
    Op(
        "einsum",
        "attention",
        lambda node, shapes: tuple([_letters(node, shapes)[c] for c in node["text"].split("->")[1][1:]]),
        call=lambda node, names: f"torch.einsum({node['text']!r}, {', '.join(names)})",
        arity=None,
        at_least=1,
        attributes={"text": REQUIRED},
        macs=lambda node, shapes, out: math.prod(_letters(node, shapes).values()) if len(shapes) > 1 else 0,
        flow=lambda node, shapes, out: FROZEN,
    ),
    Op(
        "cumsum",
        "other",
        lambda node, shapes: shapes[0],
        call=lambda node, names: f"torch.cumsum({names[0]}, {dim(node['axis'])})",
        attributes={"axis": REQUIRED},
        flow=lambda node, shapes, out: Flow("along", axes=(node["axis"],)),
    ),
    Op(
        "interpolate",
        "other",
        _resized_map,
        call=lambda node, names: (
            f"F.interpolate({names[0]}, "
            + (f"scale_factor={node['scale']!r}" if node["scale"] else f"size={sizes(node['size'])}")
            + ("" if node["mode"] == "nearest" else f", mode={node['mode']!r}")
            + (", align_corners=True" if node["align_corners"] else "")
            + (", antialias=True" if node["antialias"] else "")
            + ")"
        ),
        attributes={"size": REQUIRED, "scale": 0.0, "mode": "nearest", "align_corners": False, "antialias": False},
        flow=lambda node, shapes, out: Flow("channelwise"),
    ),
    Op(
        "pixel_shuffle",
        "other",
        lambda node, shapes: (
            shapes[0][0] // node["factor"] ** 2,
            shapes[0][1] * node["factor"],
            shapes[0][2] * node["factor"],
        ),
        call=lambda node, names: f"F.pixel_shuffle({names[0]}, {node['factor']})",
        attributes={"factor": REQUIRED},
        flow=lambda node, shapes, out: FROZEN,
    ),
    Op(
        "pixel_unshuffle",
        "other",
        lambda node, shapes: (
            shapes[0][0] * node["factor"] ** 2,
            shapes[0][1] // node["factor"],
            shapes[0][2] // node["factor"],
        ),
        call=lambda node, names: f"F.pixel_unshuffle({names[0]}, {node['factor']})",
        attributes={"factor": REQUIRED},
        flow=lambda node, shapes, out: FROZEN,
    ),
)
