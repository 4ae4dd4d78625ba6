"""The space of Zoph & Le: a chain of convolutions, each of which chooses its form and the layers that it reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rlnas.graph import Graph, Shape
from rlnas.spaces.builder import Builder
from rlnas.spaces.decisions import Choice, Decision
from rlnas.spaces.maker import check_counts, checked


@dataclass(frozen=True)
class Chain:
    """Convolution, BatchNorm and ReLU in each layer, anchored to any of the layers before it.

    Of each layer are decided ``height<i>``, ``width<i>``, ``filters<i>`` and ``stride<i>``, and then for each earlier
    layer j the anchor ``j->i``: 1 if layer i reads it. A layer that reads several has them side by side, smaller maps
    padded with zeros; one that reads none reads the image. What no layer reads is joined before the classifier, which
    averages over the map.

    Attributes:
        input_shape: (channels, height, width) of one sample.
        n_classes: Outputs of the classifier.
        layers: Convolutions.
        kernels: Heights and widths of their kernels, odd. The paper has 1, 3, 5, 7.
        filters: Numbers of their filters. The paper has 24, 36, 48, 64.
        strides: Their strides. The paper has 1, or 1, 2, 3.
        anchors: Whether anchors are decided; without them each layer reads the one before it.

    Raises:
        SpaceError: If a size is out of range, or the input is no image.

    References:
        Zoph, Le, Neural Architecture Search with Reinforcement Learning, ICLR 2017, arXiv:1611.01578.
    """

    input_shape: Shape
    n_classes: int
    layers: int = 4
    kernels: tuple[int, ...] = (1, 3, 5)
    filters: tuple[int, ...] = (8, 12, 16, 24)
    strides: tuple[int, ...] = (1, 2)
    anchors: bool = True

    def __post_init__(self) -> None:
        check_counts("chain", layers=self.layers, n_classes=self.n_classes)
        object.__setattr__(self, "kernels", checked("chain", "kernels", self.kernels, odd=True))
        for name in ("filters", "strides"):
            object.__setattr__(self, name, checked("chain", name, getattr(self, name)))
        Builder(self.input_shape)

    @cached_property
    def decisions(self) -> tuple[Decision, ...]:
        """Those of each layer, the first layer first."""
        found = []
        for i in range(1, self.layers + 1):
            sizes = {"height": self.kernels, "width": self.kernels, "filters": self.filters, "stride": self.strides}
            found += [Decision(f"{name}{i}", choices) for name, choices in sizes.items()]
            found += [Decision(f"{j}->{i}", (0, 1)) for j in range(1, i)] if self.anchors else []
        return tuple(found)

    @cached_property
    def reference(self) -> Mapping[str, Choice]:
        """Square kernels of 3 or the nearest, the fewest filters, the smallest stride, each layer after the last."""
        kernel = min(self.kernels, key=lambda k: (abs(k - 3), k))
        usual: dict[str, Choice] = {"height": kernel, "width": kernel}
        usual |= {"filters": min(self.filters), "stride": min(self.strides)}
        chosen = {f"{name}{i}": value for i in range(1, self.layers + 1) for name, value in usual.items()}
        if self.anchors:
            chosen |= {f"{j}->{i}": int(j == i - 1) for i in range(1, self.layers + 1) for j in range(1, i)}
        return chosen

    def graph(self, choices: Mapping[str, Any]) -> Graph:
        """The network of these choices."""
        build = Builder(self.input_shape)
        ends: dict[int, str] = {}
        read: set[int] = set()
        for i in range(1, self.layers + 1):
            reads = [j for j in range(1, i) if (choices[f"{j}->{i}"] if self.anchors else j == i - 1)]
            read.update(reads)
            x = _joined(build, f"join{i}", [ends[j] for j in reads]) if reads else build.image
            kernel = (choices[f"height{i}"], choices[f"width{i}"])
            ends[i] = build.conv_norm_relu(f"layer{i}", x, choices[f"filters{i}"], kernel, stride=choices[f"stride{i}"])
        loose = [end for i, end in ends.items() if i not in read]
        return build.classifier(_joined(build, "join", loose), self.n_classes)


def _joined(build: Builder, name: str, values: list[str]) -> str:
    """Values side by side, smaller maps in the middle of zeros."""
    height, width = (max(build.shape(x)[axis] for x in values) for axis in (1, 2))
    parts = []
    for number, x in enumerate(values, 1):
        tall, wide = height - build.shape(x)[1], width - build.shape(x)[2]
        if tall or wide:
            amounts = (wide // 2, wide - wide // 2, tall // 2, tall - tall // 2)
            x = build.add(f"{name}_pad{number}", "pad", x, amounts=amounts)
        parts.append(x)
    return build.join(name, parts)
