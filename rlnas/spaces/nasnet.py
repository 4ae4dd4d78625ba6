"""The space of NASNet: two cells of blocks, stacked to a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from rlnas.graph import Graph, Shape
from rlnas.spaces.builder import Builder
from rlnas.spaces.decisions import Choice, Decision
from rlnas.spaces.maker import check_counts, checked_names

NASNET_OPS: Final = (
    "identity",
    "sep_3x3",
    "sep_5x5",
    "sep_7x7",
    "avg_pool_3x3",
    "max_pool_3x3",
    "max_pool_5x5",
    "max_pool_7x7",
    "conv_1x1",
    "conv_3x3",
    "conv_1x3_3x1",
    "conv_1x7_7x1",
    "dil_3x3",
)
"""The thirteen operations of the paper."""
JOINS: Final = ("add", "concat")
INPUTS: Final = ("previous", "before")
"""What a cell reads: the output of the cell before it, and of the one before that."""


@dataclass(frozen=True)
class Nasnet:
    """Stages of normal cells with a reduction cell between two stages, which halves the map and doubles the filters.

    Of each block of a cell are decided, as in ``normal1_input1`` and ``reduction2_op1``: two inputs out of the outputs
    of the two cells before and of the blocks before it, an operation on each, and whether the results are added or
    joined. Blocks that no other block reads are joined to the cell's output. Convolutions of 1x1 fit channels where
    need be, and with a stride where the cell before halved the map. A separable convolution is applied twice. Where the
    map is halved, the identity takes every other value.

    Attributes:
        input_shape: (channels, height, width) of one sample.
        n_classes: Outputs of the classifier.
        blocks: Blocks of a cell. The paper has 5.
        cells: Normal cells in a stage. The paper has 4 to 6 and more.
        stages: Stages. The paper has 3; with 1 there is no reduction cell to decide.
        filters: Channels of an operation in the first stage. The paper has 32 and more.
        ops: Operations to choose from, out of `NASNET_OPS`.

    Raises:
        SpaceError: If a size is out of range, an operation is not known, or the input is no image.

    References:
        Zoph et al., Learning Transferable Architectures for Scalable Image Recognition, CVPR 2018, arXiv:1707.07012.
    """

    input_shape: Shape
    n_classes: int
    blocks: int = 2
    cells: int = 1
    stages: int = 2
    filters: int = 8
    ops: tuple[str, ...] = NASNET_OPS

    def __post_init__(self) -> None:
        sizes = {"blocks": self.blocks, "cells": self.cells, "stages": self.stages, "filters": self.filters}
        check_counts("nasnet", n_classes=self.n_classes, **sizes)
        object.__setattr__(self, "ops", checked_names("nasnet", "ops", self.ops, NASNET_OPS))
        Builder(self.input_shape)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the cells that are decided."""
        return ("normal", "reduction") if self.stages > 1 else ("normal",)

    @cached_property
    def decisions(self) -> tuple[Decision, ...]:
        """Those of each block, the normal cell's first."""
        found = []
        for kind in self.kinds:
            for b in range(1, self.blocks + 1):
                reads = (*INPUTS, *(f"block{j}" for j in range(1, b)))
                of = {"input1": reads, "input2": reads, "op1": self.ops, "op2": self.ops, "join": JOINS}
                found += [Decision(f"{kind}{b}_{name}", choices) for name, choices in of.items()]
        return tuple(found)

    @cached_property
    def reference(self) -> Mapping[str, Choice]:
        """Blocks after each other, each a separable convolution of the last one plus what the cell before gave."""
        usual = {"input1": "previous", "input2": "before", "join": "add"}
        usual["op1"] = "sep_3x3" if "sep_3x3" in self.ops else self.ops[0]
        usual["op2"] = "identity" if "identity" in self.ops else self.ops[0]
        chosen: dict[str, Choice] = {}
        for kind in self.kinds:
            for b in range(1, self.blocks + 1):
                own = usual | ({"input1": f"block{b - 1}"} if b > 1 else {})
                chosen |= {f"{kind}{b}_{name}": value for name, value in own.items()}
        return chosen

    def graph(self, choices: Mapping[str, Any]) -> Graph:
        """The network of these choices."""
        build = Builder(self.input_shape)
        before = previous = build.conv_norm("stem", build.image, self.filters, 3)
        width, number = self.filters, 0
        for stage in range(self.stages):
            kinds = ["normal"] * self.cells
            if stage:
                width, kinds = 2 * width, ["reduction", *kinds]
            for kind in kinds:
                number += 1
                cell = _Cell(build, f"cell{number}", width, stride=2 if kind == "reduction" else 1)
                before, previous = previous, cell.grow(kind, choices, self.blocks, previous, before)
        return build.classifier(build.add("last_relu", "relu", previous), self.n_classes)


class _Cell:
    """One cell of a network that is being built."""

    def __init__(self, build: Builder, name: str, width: int, *, stride: int) -> None:
        self._build, self._name, self._width, self._stride = build, name, width, stride

    def grow(self, kind: str, choices: Mapping[str, Any], blocks: int, previous: str, before: str) -> str:
        """Add the cell; gives its output."""
        shrunk = self._build.shape(before)[1:] != self._build.shape(previous)[1:]
        values = {"previous": self._fitted(f"{self._name}_previous", previous)}
        values["before"] = self._fitted(f"{self._name}_before", before, stride=2 if shrunk else 1)
        read: set[str] = set()
        for b in range(1, blocks + 1):
            results, name = [], f"{self._name}_{b}"
            for side in (1, 2):
                source, op = choices[f"{kind}{b}_input{side}"], choices[f"{kind}{b}_op{side}"]
                read.add(source)
                stride = self._stride if source in INPUTS else 1
                results.append(self._apply(f"{name}{'ab'[side - 1]}", op, values[source], stride))
            values[f"block{b}"] = self._build.join(name, results, op=choices[f"{kind}{b}_join"])
        return self._build.join(self._name, [x for name, x in values.items() if name not in (*INPUTS, *read)])

    def _fitted(self, name: str, x: str, *, stride: int = 1) -> str:
        """A value with the cell's channels; as it is if it has them."""
        if stride == 1 and self._build.channels(x) == self._width:
            return x
        return self._layer(name, x, 1, stride=stride)

    def _layer(self, name: str, x: str, kernel: int | tuple[int, int], **options: Any) -> str:
        """ReLU, convolution, BatchNorm."""
        return self._build.conv_norm(name, self._build.add(f"{name}_relu", "relu", x), self._width, kernel, **options)

    def _apply(self, name: str, op: str, x: str, stride: int) -> str:
        """One of `NASNET_OPS`."""
        kind, *sizes = op.split("_")
        if kind == "identity":
            x = x if stride == 1 else self._build.pool(f"{name}_every", "max", x, 1, stride=stride)
            return self._fitted(name, x)
        if kind in ("avg", "max"):
            x = self._fitted(f"{name}_fit", x)
            return self._build.pool(f"{name}_pool", kind, x, int(sizes[-1][0]), stride=stride)
        kernels = [tuple(int(k) for k in size.split("x")) for size in sizes]
        if kind == "sep":
            x = self._separable(f"{name}_1", x, kernels[0][0], stride)
            return self._separable(f"{name}_2", x, kernels[0][0], 1)
        for number, (height, wide) in enumerate(kernels, 1):
            dilation = 2 if kind == "dil" else 1
            x = self._layer(f"{name}_{number}", x, (height, wide), stride=stride, dilation=dilation)
            stride = 1
        return x

    def _separable(self, name: str, x: str, kernel: int, stride: int) -> str:
        build = self._build
        channels = build.channels(x)
        x = build.add(f"{name}_relu", "relu", x)
        x = build.conv(f"{name}_depth", x, channels, kernel, stride=stride, groups=channels)
        return build.conv_norm(f"{name}_point", x, self._width, 1)
