"""Rows of the op table: normalizations."""

from __future__ import annotations

from collections.abc import Callable

from rlnas.errors import GraphError
from rlnas.graph.flow import FROZEN, Flow
from rlnas.graph.node import Node, Shape
from rlnas.graph.op import REQUIRED, Op, Param, Params, Shapes
from rlnas.graph.table.text import arguments


def _scale_and_shift(size: Shape, axes: tuple[str | None, ...], *, bias: bool = True) -> dict[str, Param]:
    found = {"weight": Param(size, axes, "one")}
    if bias:
        found["bias"] = Param(size, axes, "zero")
    return found


def _statistics(size: Shape) -> dict[str, Param]:
    return {
        "running_mean": Param(size, ("out",), "zero", trained=False),
        "running_var": Param(size, ("out",), "one", trained=False),
        "num_batches_tracked": Param((), (), "count", trained=False),
    }


def _batch_norm(n: int) -> Op:
    name = f"batch_norm{n}d"

    def shape(node: Node, shapes: Shapes) -> Shape:
        ranks = (1, 2) if n == 1 else (n + 1,)
        if len(shapes[0]) not in ranks:
            wanted = {1: "(channels,) or (channels, length)", 2: "(channels, height, width)"}
            raise GraphError(
                f"{name} {node.id} needs an input of {wanted.get(n, '(channels, depth, height, width)')}, "
                f"got {shapes[0]}"
            )
        return shapes[0]

    def params(node: Node, shapes: Shapes) -> Params:
        size = (shapes[0][0],)
        return {
            **(_scale_and_shift(size, ("out",)) if node["affine"] else {}),
            **_statistics(size),
        }

    rest = {"eps": 1e-5, "momentum": 0.1, "affine": True}
    return Op(
        name,
        "norm",
        shape,
        source=lambda node, shapes: f"nn.BatchNorm{n}d({arguments([str(shapes[0][0])], node, rest)})",
        attributes=rest,
        params=params,
        flow=lambda node, shapes, out: Flow("channelwise"),
    )


def _layer_norm() -> Op:
    def shape(node: Node, shapes: Shapes) -> Shape:
        if node["dims"] > len(shapes[0]):
            raise GraphError(f"layer_norm {node.id}: dims={node['dims']}, but its input has the shape {shapes[0]}")
        return shapes[0]

    def params(node: Node, shapes: Shapes) -> Params:
        axes = ("out",) if node["dims"] == 1 else (None,) * node["dims"]
        size = shapes[0][-node["dims"] :]
        return _scale_and_shift(size, axes, bias=node["bias"]) if node["affine"] else {}

    def source(node: Node, shapes: Shapes) -> str:
        size = shapes[0][-node["dims"] :]
        words = [str(size[0] if len(size) == 1 else size)]
        if node["eps"] != 1e-5:
            words.append(f"eps={node['eps']!r}")
        if not node["affine"]:
            words.append("elementwise_affine=False")
        elif not node["bias"]:
            words.append("bias=False")
        return f"nn.LayerNorm({', '.join(words)})"

    return Op(
        "layer_norm",
        "norm",
        shape,
        source=source,
        attributes={"dims": 1, "eps": 1e-5, "affine": True, "bias": True},
        params=params,
        flow=lambda node, shapes, out: _over_last(out) if node["dims"] == 1 else FROZEN,
    )


def _over_last(out: Shape) -> Flow:
    return Flow("channelwise", axis=len(out) - 1, others=True, pooled=True)


def _rms_source(node: Node, shapes: Shapes) -> str:
    words = [str(shapes[0][-1]), f"eps={node['eps']!r}"]
    return f"nn.RMSNorm({', '.join(words + ([] if node['affine'] else ['elementwise_affine=False']))})"


def _group_shape(node: Node, shapes: Shapes) -> Shape:
    if shapes[0][0] % node["groups"]:
        raise GraphError(f"group_norm {node.id}: groups={node['groups']} must divide {shapes[0][0]} channels")
    return shapes[0]


def _group_source(node: Node, shapes: Shapes) -> str:
    rest = {"eps": 1e-5, "affine": True}
    return f"nn.GroupNorm({arguments([str(node['groups']), str(shapes[0][0])], node, rest)})"


def _instance_norm(n: int) -> Op:
    def shape(node: Node, shapes: Shapes) -> Shape:
        if len(shapes[0]) != n + 1:
            raise GraphError(f"{node.op} {node.id} needs an input of rank {n + 1}, got {shapes[0]}")
        return shapes[0]

    def params(node: Node, shapes: Shapes) -> Params:
        size = (shapes[0][0],)
        return {
            **(_scale_and_shift(size, ("out",)) if node["affine"] else {}),
            **(_statistics(size) if node["tracked"] else {}),
        }

    def source(node: Node, shapes: Shapes) -> str:
        words = arguments([str(shapes[0][0])], node, {"eps": 1e-5, "momentum": 0.1, "affine": False})
        return f"nn.InstanceNorm{n}d({words}{', track_running_stats=True' if node['tracked'] else ''})"

    return Op(
        f"instance_norm{n}d",
        "norm",
        shape,
        source=source,
        attributes={"eps": 1e-5, "momentum": 0.1, "affine": False, "tracked": False},
        params=params,
        flow=lambda node, shapes, out: Flow("channelwise"),
    )


def _affine(size: Callable[[Shapes], int]) -> Callable[[Node, Shapes], Params]:
    return lambda node, shapes: _scale_and_shift((size(shapes),), ("out",)) if node["affine"] else {}


ROWS = (
    *map(_batch_norm, (1, 2, 3)),
    _layer_norm(),
    Op(
        "rms_norm",
        "norm",
        lambda node, shapes: shapes[0],
        source=_rms_source,
        attributes={"eps": 1e-6, "affine": True},
        params=lambda node, shapes: _scale_and_shift((shapes[0][-1],), ("out",), bias=False) if node["affine"] else {},
        flow=lambda node, shapes, out: _over_last(out),
    ),
    Op(
        "group_norm",
        "norm",
        _group_shape,
        source=_group_source,
        attributes={"groups": REQUIRED, "eps": 1e-5, "affine": True},
        params=_affine(lambda shapes: shapes[0][0]),
        flow=lambda node, shapes, out: Flow("channelwise", pooled=True, blocks=node["groups"]),
    ),
    *map(_instance_norm, (1, 2, 3)),
    Op(
        "local_response_norm",
        "norm",
        lambda node, shapes: shapes[0],
        source=lambda node, shapes: (
            f"nn.LocalResponseNorm({arguments([str(node['size'])], node, {'alpha': 1e-4, 'beta': 0.75, 'k': 1.0})})"
        ),
        attributes={"size": REQUIRED, "alpha": 1e-4, "beta": 0.75, "k": 1.0},
        flow=lambda node, shapes, out: FROZEN,
    ),
    Op(
        "normalize",
        "norm",
        lambda node, shapes: shapes[0],
        call=lambda node, names: (
            f"F.normalize({names[0]}, dim={node['axis'] + 1}"
            + ("" if node["order"] == 2.0 else f", p={node['order']!r}")
            + ("" if node["eps"] == 1e-12 else f", eps={node['eps']!r}")
            + ")"
        ),
        attributes={"axis": REQUIRED, "order": 2.0, "eps": 1e-12},
        flow=lambda node, shapes, out: Flow("along", axes=(node["axis"],)),
    ),
)
