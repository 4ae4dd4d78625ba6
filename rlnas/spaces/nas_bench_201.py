"""NAS-Bench-201's networks as graphs: a cell of four values and six edges, repeated in a fixed skeleton.

References:
    Dong, Yang, NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture Search, ICLR 2020,
    arXiv:2001.00326.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from rlnas.errors import SpaceError, unknown_name
from rlnas.graph import Graph, Node, Shape
from rlnas.graph.graph import complete
from rlnas.spaces.decisions import Decision, DecisionSpace

CELL_OPS: Final = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
"""What an edge of a cell may do, by the names of the benchmark."""
EDGES: Final = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""Edges of a cell in the benchmark's order: from one of its values to a later one."""

Cell = tuple[str, ...]


def nas_bench_201_space() -> DecisionSpace:
    """The 15,625 cells: what each of `EDGES` does, named ``0->1`` and so on."""
    return DecisionSpace(tuple(Decision(f"{i}->{j}", CELL_OPS) for i, j in EDGES))


def cell_text(ops: Iterable[str]) -> str:
    """The benchmark's notation of a cell from the operation on each of `EDGES`: the inverse of `parse_cell`."""
    parts = iter(ops)
    return "+".join("|" + "".join(f"{next(parts)}~{i}|" for i in range(j)) for j in (1, 2, 3))


def parse_cell(text: str) -> Cell:
    """The operation on each of `EDGES` from the benchmark's notation: ``|skip_connect~0|+|none~0|none~1|+|...|``.

    Raises:
        SpaceError: If the text is no cell.
    """
    found = re.findall(r"([^|+~]+)~(\d)", text)
    rebuilt = "+".join("|" + "".join(f"{op}~{i}|" for op, i in found[k : k + n]) for k, n in ((0, 1), (1, 2), (3, 3)))
    if rebuilt != text or [int(i) for _, i in found] != [i for i, _ in EDGES]:
        raise SpaceError(f"{text!r} is no cell; write one as |op~0|+|op~0|op~1|+|op~0|op~1|op~2|")
    for op, _ in found:
        if op not in CELL_OPS:
            raise SpaceError(unknown_name("operation of a cell", op, CELL_OPS))
    return tuple(op for op, _ in found)


def nas_bench_201(
    cell: str, *, input_shape: Shape = (3, 32, 32), n_classes: int = 10, channels: int = 16, cells: int = 5
) -> Graph:
    """The network of a cell: three stages of equal cells, a residual block of stride 2 between them.

    What an operation makes of nothing, or makes for nobody, is left out, so that two cells that compute the same are
    the same graph; a cell whose output depends on no input gives zeros.

    Args:
        cell: In the benchmark's notation; see `parse_cell`.
        channels: Channels of the first stage; each further one has twice as many.
        cells: Cells in a stage.

    Raises:
        SpaceError: If the text is no cell, or the input does not fit.
    """
    return _Builder(cell, input_shape, n_classes, channels, cells).graph


def nas_bench_201_blocks(cell: str, *, channels: int = 16, cells: int = 5) -> tuple[str, ...]:
    """Ids of the values that the stem, each cell and each residual block end with; a mere skip ends with its input.

    Raises:
        SpaceError: If the text is no cell.
    """
    return tuple(_Builder(cell, (3, 32, 32), 10, channels, cells).ends)


class _Builder:
    def __init__(self, cell: str, input_shape: Shape, n_classes: int, channels: int, cells: int) -> None:
        if len(input_shape) != 3 or min(input_shape[1:]) < 4 or min(channels, cells, n_classes) < 1:
            raise SpaceError(
                f"NAS-Bench-201's networks read (channels, height, width) of at least 4 x 4 and need at least one "
                f"channel, cell and class; got {input_shape}, channels={channels}, cells={cells}, n_classes={n_classes}"
            )
        self.nodes: list[Node] = []
        self.ends: list[str] = []
        ops = dict(zip(EDGES, parse_cell(cell), strict=True))
        x = self._add("image", "input", shape=tuple(input_shape), dtype="float32")
        x = self._add("stem_conv", "conv2d", x, **_conv(channels, 3))
        x = self._add("stem_bn", "batch_norm2d", x)
        self.ends.append(x)
        for stage in range(3):
            width = channels * 2**stage
            if stage:
                x = self._residual(f"reduce{stage}", x, width)
                self.ends.append(x)
            for k in range(cells):
                x = self._cell(f"cell{stage * cells + k + 1}", x, width, live_edges(ops))
                self.ends.append(x)
        x = self._add("last_bn", "batch_norm2d", x)
        x = self._add("last_relu", "relu", x)
        x = self._add("pool", "adaptive_avg_pool2d", x)
        x = self._add("flatten", "flatten", x)
        x = self._add("classifier", "linear", x, out_channels=n_classes)
        self.graph = Graph(tuple(self.nodes), x)

    def _add(self, id: str, op: str, *inputs: str, **attributes: Any) -> str:
        self.nodes.append(complete(Node.make(id, op, inputs, **attributes)))
        return id

    def _layer(self, name: str, x: str, width: int, kernel: int, *, stride: int = 1) -> str:
        """ReLU, convolution, BatchNorm."""
        x = self._add(f"{name}_relu", "relu", x)
        x = self._add(f"{name}_conv", "conv2d", x, **_conv(width, kernel, stride=stride))
        return self._add(f"{name}_bn", "batch_norm2d", x)

    def _cell(self, name: str, x: str, width: int, ops: dict[tuple[int, int], str]) -> str:
        values = {0: x}
        for j in (1, 2, 3):
            parts = []
            for i in range(j):
                op, edge = ops.get((i, j)), f"{name}_{i}{j}"
                if op == "skip_connect":
                    parts.append(values[i])
                elif op == "avg_pool_3x3":
                    pool = {"kernel_size": (3, 3), "stride": (1, 1), "padding": (1, 1), "count_include_pad": False}
                    parts.append(self._add(f"{edge}_pool", "avg_pool2d", values[i], **pool))
                elif op is not None:
                    parts.append(self._layer(edge, values[i], width, 1 if op == "nor_conv_1x1" else 3))
            if parts:
                values[j] = parts[0] if len(parts) == 1 else self._add(f"{name}_{j}", "add", *parts)
        return values[3] if 3 in values else self._add(f"{name}_zero", "mul_scalar", x, value=0.0)

    def _residual(self, name: str, x: str, width: int) -> str:
        main = self._layer(f"{name}_a", x, width, 3, stride=2)
        main = self._layer(f"{name}_b", main, width, 3)
        short = self._add(f"{name}_pool", "avg_pool2d", x, kernel_size=(2, 2), stride=(2, 2))
        short = self._add(f"{name}_short", "conv2d", short, **_conv(width, 1))
        return self._add(name, "add", main, short)


def _conv(width: int, kernel: int, *, stride: int = 1) -> dict[str, Any]:
    pairs = {"kernel_size": kernel, "padding": kernel // 2, "stride": stride}
    return {"out_channels": width, "bias": False, **{name: (n, n) for name, n in pairs.items()}}


def live_edges(ops: dict[tuple[int, int], str]) -> dict[tuple[int, int], str]:
    """The edges that carry something from the cell's input to its output."""
    edges = [edge for edge in EDGES if ops[edge] != "none"]
    reached, read = {0}, {3}
    for i, j in edges:  # in the order of the values they lead to
        if i in reached:
            reached.add(j)
    for i, j in reversed(edges):
        if j in read:
            read.add(i)
    return {(i, j): ops[i, j] for i, j in edges if i in reached and j in read}
