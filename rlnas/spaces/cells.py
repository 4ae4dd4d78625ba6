"""The space of NAS-Bench-201's cells, for networks that are trained rather than looked up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlnas.errors import SpaceError
from rlnas.graph import Graph, Shape
from rlnas.spaces.builder import Builder
from rlnas.spaces.decisions import Choice, Decision
from rlnas.spaces.maker import check_counts
from rlnas.spaces.nas_bench_201 import cell_text, nas_bench_201, nas_bench_201_space


@dataclass(frozen=True)
class NasBench201:
    """Three stages of equal cells, whose six edges are decided, ``0->1`` and so on; see `nas_bench_201`.

    Attributes:
        input_shape: (channels, height, width) of one sample; sizes that can be halved twice.
        n_classes: Outputs of the classifier.
        channels: Channels of the first stage. The benchmark has 16.
        cells: Cells in a stage. The benchmark has 5.

    Raises:
        SpaceError: If a size is out of range, or the input is no image that can be halved twice.

    References:
        Dong, Yang, NAS-Bench-201, ICLR 2020, arXiv:2001.00326.
    """

    input_shape: Shape
    n_classes: int
    channels: int = 8
    cells: int = 1

    def __post_init__(self) -> None:
        check_counts("nas_bench_201", n_classes=self.n_classes, channels=self.channels, cells=self.cells)
        Builder(self.input_shape)
        if any(size % 4 for size in self.input_shape[1:]):
            raise SpaceError(
                f"space nas_bench_201: images of {self.input_shape[1]} x {self.input_shape[2]} cannot be halved twice; "
                "another space can do with them, such as chain, nasnet or mnasnet"
            )

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """Those of the six edges."""
        return nas_bench_201_space().decisions

    @property
    def reference(self) -> Mapping[str, Choice]:
        """The cell of a residual network: two 3x3 convolutions, and the input added."""
        return {
            "0->1": "nor_conv_3x3",
            "0->2": "none",
            "1->2": "nor_conv_3x3",
            "0->3": "skip_connect",
            "1->3": "none",
            "2->3": "skip_connect",
        }

    def graph(self, choices: Mapping[str, Any]) -> Graph:
        """The network of these choices."""
        text = cell_text(choices[decision.name] for decision in self.decisions)
        sizes = {"channels": self.channels, "cells": self.cells}
        return nas_bench_201(text, input_shape=self.input_shape, n_classes=self.n_classes, **sizes)
