"""Rows of the op table: values are moved, joined or cut; nothing is computed."""

from __future__ import annotations

import math

from rlnas.errors import GraphError
from rlnas.graph.flow import FROZEN, Flow
from rlnas.graph.node import Node, Shape
from rlnas.graph.op import REQUIRED, Op, Shapes
from rlnas.graph.table.elementwise import broadcast
from rlnas.graph.table.text import dim


def _axis(node: Node, shape: Shape) -> int:
    axis: int = node["axis"]
    if axis >= len(shape):
        raise GraphError(f"{node.op} {node.id}: axis={axis}, but its input has the shape {shape}")
    return axis


def _concat_shape(node: Node, shapes: Shapes) -> Shape:
    axis = _axis(node, shapes[0])
    rests = {(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}
    if len(rests) != 1 or len({len(shape) for shape in shapes}) != 1:
        raise GraphError(f"concat {node.id}: sizes beside axis {axis} differ: {', '.join(map(str, shapes))}")
    return (*shapes[0][:axis], sum(shape[axis] for shape in shapes), *shapes[0][axis + 1 :])


def _slice_shape(node: Node, shapes: Shapes) -> Shape:
    axis, start, stop, step = _axis(node, shapes[0]), node["start"], node["stop"], node["step"]
    if not 0 <= start < stop <= shapes[0][axis]:
        raise GraphError(f"slice {node.id}: [{start}:{stop}] of {shapes[0][axis]} values")
    return (*shapes[0][:axis], len(range(start, stop, step)), *shapes[0][axis + 1 :])


def _slice_call(node: Node, names: tuple[str, ...]) -> str:
    step = f":{node['step']}" if node["step"] != 1 else ""
    commas = ", ".join([":"] * (node["axis"] + 1))
    return f"{names[0]}[{commas}, {node['start'] or ''}:{node['stop']}{step}]"


def _slice_resized(node: Node, old: Shape, new: Shape) -> Node:
    """Only the length: where it starts is said by the channels before it."""
    return node.replace(stop=node["start"] + new[node["axis"]])


def _reshape_shape(node: Node, shapes: Shapes) -> Shape:
    shape: Shape = node["shape"]
    if math.prod(shape) != math.prod(shapes[0]):
        raise GraphError(f"reshape {node.id}: {shapes[0]} does not fill {shape}")
    return shape


def _permuted(node: Node, shapes: Shapes) -> Shape:
    dims = node["dims"]
    if sorted(dims) != list(range(len(shapes[0]))):
        raise GraphError(f"permute {node.id}: dims={dims} is no order of the axes of {shapes[0]}")
    return tuple([shapes[0][d] for d in dims])


def _permute_call(node: Node, names: tuple[str, ...]) -> str:
    dims = node["dims"]
    moved = [i for i, d in enumerate(dims) if i != d]
    if len(moved) == 2:
        return f"{names[0]}.transpose({dim(moved[0])}, {dim(moved[1])})"
    return f"{names[0]}.permute(0, {', '.join(str(dim(d)) for d in dims)})"


def _layout_call(node: Node, names: tuple[str, ...]) -> str:
    """In memory the axes of a batch of values follow one another in this order.

    With groups it is only as far as merging the first axis with that of the batch asks for it.
    """
    dims: tuple[int, ...] = node["dims"]
    if node["groups"] > 1:
        return f"{names[0]}.flatten(0, 1).unflatten(0, (-1, {node['groups']}))"
    if dims == tuple(range(len(dims))):
        return f"{names[0]}.contiguous()"
    back = tuple([dims.index(axis) for axis in range(len(dims))])
    return f"{names[0]}.permute{dims}.contiguous().permute{back}"


def _flatten_shape(node: Node, shapes: Shapes) -> Shape:
    start = node["start"]
    if start >= len(shapes[0]):
        raise GraphError(f"flatten {node.id}: start={start}, but its input has the shape {shapes[0]}")
    return (*shapes[0][:start], math.prod(shapes[0][start:]))


def _padded(node: Node, shapes: Shapes) -> Shape:
    amounts, shape = node["amounts"], list(shapes[0])
    if len(amounts) % 2 or len(amounts) > 2 * len(shape):
        raise GraphError(f"pad {node.id}: amounts={amounts} for a value of shape {shapes[0]}")
    for i in range(len(amounts) // 2):
        shape[-1 - i] += amounts[2 * i] + amounts[2 * i + 1]
    if min(shape) < 1:
        raise GraphError(f"pad {node.id}: nothing is left of a value of shape {shapes[0]}")
    return tuple(shape)


def _padded_axes(node: Node, out: Shape) -> tuple[int, ...]:
    amounts = node["amounts"]
    return tuple([len(out) - 1 - i for i in range(len(amounts) // 2) if amounts[2 * i] or amounts[2 * i + 1]])


def _pad_call(node: Node, names: tuple[str, ...]) -> str:
    words = [names[0], str(tuple(node["amounts"]))]
    if node["padding_mode"] != "zeros":
        words.append(f"mode={node['padding_mode']!r}")
    if node["value"]:
        words.append(f"value={node['value']!r}")
    return f"F.pad({', '.join(words)})"


DROPOUTS = {
    "dropout": "Dropout",
    "dropout1d": "Dropout1d",
    "dropout2d": "Dropout2d",
    "dropout3d": "Dropout3d",
    "alpha_dropout": "AlphaDropout",
}
"""Class of each kind of dropout."""

ROWS = (
    Op(
        "concat",
        "merge",
        _concat_shape,
        call=lambda node, names: f"torch.cat([{', '.join(names)}], dim={dim(node['axis'])})",
        arity=None,
        attributes={"axis": 0},
        flow=lambda node, shapes, out: Flow("concat", axis=node["axis"]),
    ),
    Op(
        "slice",
        "other",
        _slice_shape,
        call=_slice_call,
        attributes={"axis": REQUIRED, "start": REQUIRED, "stop": REQUIRED, "step": 1},
        flow=lambda node, shapes, out: Flow("slice", axis=node["axis"]),
        resized=_slice_resized,
        view=True,
    ),
    Op(
        "reshape",
        "other",
        _reshape_shape,
        call=lambda node, names: f"{names[0]}.reshape({', '.join(map(str, (-1, *node['shape'])))})",
        attributes={"shape": REQUIRED},
        flow=lambda node, shapes, out: Flow("reshape"),
        resized=lambda node, old, new: node.replace(shape=new),
        view=True,
    ),
    Op(
        "permute",
        "other",
        _permuted,
        call=_permute_call,
        attributes={"dims": REQUIRED},
        flow=lambda node, shapes, out: Flow("permute", axes=node["dims"]),
        view=True,
    ),
    Op(
        "flatten",
        "other",
        _flatten_shape,
        call=lambda node, names: f"torch.flatten({names[0]}, {dim(node['start'])})",
        attributes={"start": 0},
        flow=lambda node, shapes, out: Flow("reshape"),
        view=True,
    ),
    Op(
        "index_select",
        "other",
        lambda node, shapes: (
            *shapes[0][: _axis(node, shapes[0])],
            len(node["indices"]),
            *shapes[0][node["axis"] + 1 :],
        ),
        call=lambda node, names: f"{names[0]}[{', '.join([':'] * dim(node['axis']))}, {list(node['indices'])}]",
        attributes={"axis": REQUIRED, "indices": REQUIRED},
        flow=lambda node, shapes, out: Flow("along", axes=(node["axis"],)),
    ),
    Op(
        "roll",
        "other",
        lambda node, shapes: shapes[0],
        call=lambda node, names: f"torch.roll({names[0]}, {node['shift']}, {dim(node['axis'])})",
        attributes={"axis": REQUIRED, "shift": REQUIRED},
        flow=lambda node, shapes, out: Flow("along", axes=(node["axis"],)),
    ),
    Op(
        "expand",
        "other",
        lambda node, shapes: node["shape"],
        call=lambda node, names: f"{names[0]}.expand(-1, {', '.join(map(str, node['shape']))})",
        attributes={"shape": REQUIRED},
        flow=lambda node, shapes, out: FROZEN,
        view=True,
    ),
    Op(
        "each",
        "other",
        lambda node, shapes: node["shape"],
        call=lambda node, names: (
            f"{names[0]}.expand({', '.join([f'{names[1]}.shape[0]', *['-1'] * len(node['shape'])])})"
        ),
        arity=2,
        attributes={"shape": REQUIRED},
        flow=lambda node, shapes, out: Flow("along"),
        resized=lambda node, old, new: node.replace(shape=new),
        view=True,
        broadcasts=True,
    ),
    Op(
        "pad",
        "other",
        _padded,
        call=_pad_call,
        attributes={"amounts": REQUIRED, "padding_mode": "zeros", "value": 0.0},
        flow=lambda node, shapes, out: Flow("along", axes=_padded_axes(node, out)),
    ),
    Op(
        "masked_fill",
        "other",
        lambda node, shapes: shapes[0],
        call=lambda node, names: f"{names[0]}.masked_fill({names[1]}, {node['text']})",
        arity=2,
        attributes={"text": REQUIRED},
        flow=lambda node, shapes, out: FROZEN,
        broadcasts=True,
    ),
    Op(
        "where",
        "other",
        broadcast,
        call=lambda node, names: f"torch.where({', '.join(names)})",
        arity=3,
        flow=lambda node, shapes, out: FROZEN,
        broadcasts=True,
    ),
    *(
        Op(
            name,
            "other",
            lambda node, shapes: shapes[0],
            source=lambda node, shapes: f"nn.{DROPOUTS[node.op]}({node['p']!r})",
            attributes={"p": 0.5},
        )
        for name in DROPOUTS
    ),
    Op(
        "layout",
        "other",
        lambda node, shapes: shapes[0],
        call=_layout_call,
        attributes={"dims": REQUIRED, "groups": 1},
        idempotent=True,
    ),
    Op("identity", "other", lambda node, shapes: shapes[0], call=lambda node, names: names[0], view=True),
    Op(
        "opaque",
        "other",
        lambda node, shapes: node["shape"],
        call=lambda node, names: node["text"].format(*names),
        arity=None,
        at_least=1,
        attributes={"text": REQUIRED, "shape": REQUIRED},
        flow=lambda node, shapes, out: FROZEN,
        broadcasts=True,
    ),
)
