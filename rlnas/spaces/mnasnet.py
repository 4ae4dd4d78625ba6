"""The space of MnasNet: blocks of equal layers, each block with a form of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from rlnas.errors import SpaceError
from rlnas.graph import Graph, Shape
from rlnas.spaces.builder import Builder
from rlnas.spaces.decisions import Choice, Decision
from rlnas.spaces.maker import check_counts, checked, checked_names

MNASNET_OPS: Final = ("conv", "dconv", "mbconv3", "mbconv6")
"""A convolution; a depthwise and a 1x1 one; the same after a 1x1 one that makes 3 or 6 times as many channels."""
SKIPS: Final = ("none", "identity", "pool")
"""Nothing, the input where it has the output's shape, or the input pooled and, where need be, fitted by a 1x1 one."""
SCALES: Final = (0.75, 1.0, 1.25)
"""Numbers of filters to choose from, relative to the usual one."""
CHANGES: Final = (-1, 0, 1)
"""Numbers of layers to choose from, beside the usual one."""


@dataclass(frozen=True)
class Mnasnet:
    """Blocks after each other; the layers of a block are alike, but for the stride, which the first one has.

    Of each block are decided, as in ``op1``: the convolution, ``kernel1``, the squeeze-and-excitation ratio ``se1``,
    ``skip1``, ``filters1`` and ``layers1``. The last two are offered around the usual numbers, as in the paper.

    Attributes:
        input_shape: (channels, height, width) of one sample.
        n_classes: Outputs of the classifier.
        filters: Usual number of filters of each block. The paper has those of MobileNetV2: 16, 24, 32, 64, 96, 160,
            320.
        layers: Usual number of layers of each block. The paper has 1, 2, 3, 4, 3, 3, 1.
        strides: Stride of each block. The paper has 1, 2, 2, 2, 1, 2, 1.
        stem: Filters of the first convolution. The paper has 32, with a stride of 2.
        ops: Convolutions to choose from, out of `MNASNET_OPS`.
        kernels: Kernels to choose from, odd.
        ratios: Squeeze-and-excitation ratios to choose from; 0 has none.

    Raises:
        SpaceError: If a size is out of range, an operation is not known, or the input is no image.

    References:
        Tan et al., MnasNet: Platform-Aware Neural Architecture Search for Mobile, CVPR 2019, arXiv:1807.11626.
    """

    input_shape: Shape
    n_classes: int
    filters: tuple[int, ...] = (8, 12, 16)
    layers: tuple[int, ...] = (1, 1, 1)
    strides: tuple[int, ...] = (1, 2, 2)
    stem: int = 8
    ops: tuple[str, ...] = MNASNET_OPS
    kernels: tuple[int, ...] = (3, 5)
    ratios: tuple[float, ...] = (0.0, 0.25)

    def __post_init__(self) -> None:
        check_counts("mnasnet", n_classes=self.n_classes, stem=self.stem)
        for name in ("filters", "layers", "strides", "kernels"):
            object.__setattr__(self, name, checked("mnasnet", name, getattr(self, name), odd=name == "kernels"))
        if not len(self.filters) == len(self.layers) == len(self.strides):
            raise SpaceError(
                f"space mnasnet: filters, layers and strides need a number for each block, got {len(self.filters)}, "
                f"{len(self.layers)} and {len(self.strides)}"
            )
        object.__setattr__(self, "ops", checked_names("mnasnet", "ops", self.ops, MNASNET_OPS))
        object.__setattr__(self, "ratios", _shares(self.ratios))
        Builder(self.input_shape)

    @cached_property
    def decisions(self) -> tuple[Decision, ...]:
        """Those of each block, the first block's first."""
        found = []
        for b, (filters, layers) in enumerate(zip(self.filters, self.layers, strict=True), 1):
            found += [
                Decision(f"op{b}", self.ops),
                Decision(f"kernel{b}", self.kernels),
                Decision(f"se{b}", self.ratios),
                Decision(f"skip{b}", SKIPS),
                Decision(f"filters{b}", tuple(sorted({max(1, round(scale * filters)) for scale in SCALES}))),
                Decision(f"layers{b}", tuple(sorted({max(1, layers + change) for change in CHANGES}))),
            ]
        return tuple(found)

    @cached_property
    def reference(self) -> Mapping[str, Choice]:
        """As in MobileNetV2: inverted residuals, kernels of 3 or the smallest, the usual filters and layers."""
        usual: dict[str, Choice] = {
            "op": next((op for op in ("mbconv6", "mbconv3") if op in self.ops), self.ops[0]),
            "kernel": min(self.kernels),
            "se": min(self.ratios),
            "skip": "identity",
        }
        chosen: dict[str, Choice] = {}
        for b, (filters, layers) in enumerate(zip(self.filters, self.layers, strict=True), 1):
            chosen |= {f"{name}{b}": value for name, value in usual.items()}
            chosen |= {f"filters{b}": filters, f"layers{b}": layers}
        return chosen

    def graph(self, choices: Mapping[str, Any]) -> Graph:
        """The network of these choices."""
        build = Builder(self.input_shape)
        x = build.conv_norm_relu("stem", build.image, self.stem, 3)
        for b, stride in enumerate(self.strides, 1):
            form = {name: choices[f"{name}{b}"] for name in ("op", "kernel", "se", "skip", "filters")}
            for layer in range(1, choices[f"layers{b}"] + 1):
                x = _layer(build, f"block{b}_{layer}", x, stride=stride if layer == 1 else 1, **form)
        return build.classifier(x, self.n_classes)


def _layer(
    build: Builder, name: str, x: str, *, op: str, kernel: int, se: float, skip: str, filters: int, stride: int
) -> str:
    y, reads = x, build.channels(x)
    if op == "conv":
        y = _gated(build, name, build.conv_norm_relu(name, y, filters, kernel, stride=stride), se, reads)
    else:
        if op.startswith("mbconv"):
            y = build.conv_norm_relu(f"{name}_expand", y, reads * int(op.removeprefix("mbconv")), 1)
        wide = build.channels(y)
        y = build.conv_norm_relu(f"{name}_depth", y, wide, kernel, stride=stride, groups=wide)
        y = build.conv_norm(f"{name}_point", _gated(build, name, y, se, reads), filters, 1)
    if skip == "none" or (skip == "identity" and build.shape(x) != build.shape(y)):
        return y
    if skip == "pool":
        x = build.pool(f"{name}_pool", "avg", x, 3, stride=stride)
        x = x if reads == filters else build.conv_norm(f"{name}_fit", x, filters, 1)
    return build.add(f"{name}_add", "add", x, y)


def _gated(build: Builder, name: str, x: str, ratio: float, reads: int) -> str:
    """Squeeze and excitation, with so large a share of the channels that the layer reads in the middle."""
    if not ratio:
        return x
    one = {"kernel_size": (1, 1), "bias": True}
    gate = build.add(f"{name}_squeeze", "adaptive_avg_pool2d", x)
    gate = build.add(f"{name}_reduce", "conv2d", gate, out_channels=max(1, round(ratio * reads)), **one)
    gate = build.add(f"{name}_bend", "relu", gate)
    gate = build.add(f"{name}_excite", "conv2d", gate, out_channels=build.channels(x), **one)
    return build.add(f"{name}_gated", "mul", x, build.add(f"{name}_gate", "sigmoid", gate))


def _shares(values: Any) -> tuple[float, ...]:
    listed = (values,) if isinstance(values, int | float) else tuple(values)
    if not listed or not all(isinstance(value, int | float) and 0 <= value <= 1 for value in listed):
        raise SpaceError(f"space mnasnet: ratios={values!r} must be a list of numbers from 0 to 1")
    return tuple(map(float, listed))
