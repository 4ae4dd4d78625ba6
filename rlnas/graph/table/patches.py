"""Rows of the op table: what cuts values into patches, samples them at places, or writes into a part of them."""

from __future__ import annotations

import math

from rlnas.errors import GraphError
from rlnas.graph.flow import FROZEN, Flow
from rlnas.graph.node import Node, Shape
from rlnas.graph.op import REQUIRED, Op, Shapes
from rlnas.graph.table.layers import spatial
from rlnas.graph.table.text import arguments, dim, sizes
from rlnas.graph.table.windows import window

WINDOW = {"dilation": (1, 1), "padding": (0, 0), "stride": (1, 1)}


def _unfolded(node: Node, shapes: Shapes) -> Shape:
    channels, *places = spatial(node, shapes[0], 2)
    count = math.prod(window(node, size, axis) for axis, size in enumerate(places))
    return channels * math.prod(node["kernel_size"]), count


def _folded(node: Node, shapes: Shapes) -> Shape:
    area, size = math.prod(node["kernel_size"]), node["output_size"]
    count = math.prod(window(node, places, axis) for axis, places in enumerate(size))
    if len(shapes[0]) != 2 or shapes[0][0] % area or shapes[0][1] != count:
        raise GraphError(f"fold {node.id}: {shapes[0]} are not {count} patches of {area} places")
    return shapes[0][0] // area, *size


def _unfold_call(node: Node, names: tuple[str, ...]) -> str:
    return f"F.unfold({arguments([names[0], sizes(node['kernel_size'])], node, WINDOW)})"


def _fold_call(node: Node, names: tuple[str, ...]) -> str:
    words = [names[0], sizes(node["output_size"]), sizes(node["kernel_size"])]
    return f"F.fold({arguments(words, node, WINDOW)})"


def _half(node: Node, shapes: Shapes) -> Shape:
    axis = node["axis"]
    if axis >= len(shapes[0]) or shapes[0][axis] % 2:
        raise GraphError(f"glu {node.id}: axis={axis} of a value of shape {shapes[0]} has no halves")
    return *shapes[0][:axis], shapes[0][axis] // 2, *shapes[0][axis + 1 :]


def _sampled(node: Node, shapes: Shapes) -> Shape:
    value, grid = shapes
    if len(value) != 3 or len(grid) != 3 or grid[2] != 2:
        raise GraphError(
            f"grid_sample {node.id}: a map and places of shape (height, width, 2) are needed, got {shapes}"
        )
    return value[0], *grid[:2]


def _sample_call(node: Node, names: tuple[str, ...]) -> str:
    words = list(names)
    if node["sampling"] != "bilinear":
        words.append(f"mode={node['sampling']!r}")
    if node["margins"] != "zeros":
        words.append(f"padding_mode={node['margins']!r}")
    return f"F.grid_sample({', '.join(words)}, align_corners={node['align_corners']})"


def _grid(node: Node, shapes: Shapes) -> Shape:
    if shapes[0] != (2, 3):
        raise GraphError(f"affine_grid {node.id}: matrices of shape (2, 3) are needed, got {shapes[0]}")
    return *node["size"], 2


def _grid_call(node: Node, names: tuple[str, ...]) -> str:
    size = ", ".join(map(str, node["size"]))
    return f"F.affine_grid({names[0]}, ({names[0]}.shape[0], 1, {size}), align_corners={node['align_corners']})"


def _written(node: Node, shapes: Shapes) -> Shape:
    whole, part = shapes
    axis, count = node["axis"], len(range(node["start"], node["stop"], node["step"]))
    if axis >= len(whole) or node["stop"] > whole[axis] or part != (*whole[:axis], count, *whole[axis + 1 :]):
        raise GraphError(
            f"write {node.id}: {part} does not fit [{node['start']}:{node['stop']}] of axis {axis} of {whole}"
        )
    return whole


def _write_call(node: Node, names: tuple[str, ...]) -> str:
    words = [*names, str(dim(node["axis"])), str(node["start"]), str(node["stop"])]
    return f"torch.slice_scatter({', '.join(words + ([] if node['step'] == 1 else [str(node['step'])]))})"


ROWS = (
    Op(
        "unfold",
        "other",
        _unfolded,
        call=_unfold_call,
        attributes={"kernel_size": REQUIRED, **WINDOW},
        flow=lambda node, shapes, out: FROZEN,
    ),
    Op(
        "fold",
        "other",
        _folded,
        call=_fold_call,
        attributes={"output_size": REQUIRED, "kernel_size": REQUIRED, **WINDOW},
        flow=lambda node, shapes, out: FROZEN,
    ),
    Op(
        "glu",
        "other",
        _half,
        call=lambda node, names: f"F.glu({names[0]}, dim={dim(node['axis'])})",
        attributes={"axis": REQUIRED},
        flow=lambda node, shapes, out: Flow("along", axes=(node["axis"],)),
    ),
    Op(
        "one_hot",
        "other",
        lambda node, shapes: (*shapes[0], node["num_embeddings"]),
        call=lambda node, names: f"F.one_hot({names[0]}, {node['num_embeddings']})",
        attributes={"num_embeddings": REQUIRED},
        flow=lambda node, shapes, out: FROZEN,
    ),
    Op(
        "grid_sample",
        "other",
        _sampled,
        call=_sample_call,
        arity=2,
        attributes={"sampling": "bilinear", "margins": "zeros", "align_corners": False},
        flow=lambda node, shapes, out: FROZEN,
    ),
    Op(
        "affine_grid",
        "other",
        _grid,
        call=_grid_call,
        attributes={"size": REQUIRED, "align_corners": False},
        flow=lambda node, shapes, out: FROZEN,
    ),
    Op(
        "write",
        "other",
        _written,
        call=_write_call,
        arity=2,
        attributes={"axis": REQUIRED, "start": REQUIRED, "stop": REQUIRED, "step": 1},
        flow=lambda node, shapes, out: FROZEN,
    ),
)
