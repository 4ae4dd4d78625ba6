"""Small networks of well-known families, on which random graphs seldom hit."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rlnas.graph import Graph
from tests.graphs import Builder

EPS = 1e-2
"""Not the default: near-constant channels would magnify the rounding of sums beyond any tolerance."""


def _normed(b: Builder, out: int, kernel: int = 3, activation: str | None = "relu", **attrs: object) -> str:
    b.conv(out, kernel, bias=False, **attrs)
    b.add("batch_norm2d", eps=EPS)
    return b.add(activation) if activation else b.last


def _classifier(b: Builder, n_classes: int = 3) -> Graph:
    b.add("adaptive_avg_pool2d")
    b.add("flatten")
    b.add("linear", out_channels=n_classes)
    return b.graph()


def resnet(blocks: Sequence[int] = (1, 1), width: int = 8, size: int = 8) -> Graph:
    """Stages of bottlenecks with projection shortcuts; (3, 4, 6, 3) blocks make ResNet-50."""
    b = Builder(3, size, size)
    _normed(b, width)
    for stage, n in enumerate(blocks):
        inner = width << stage
        for k in range(n):
            stride = 2 if stage and not k else 1
            source = b.last
            _normed(b, inner, 1)
            _normed(b, inner, 3, stride=(stride, stride))
            end = _normed(b, 4 * inner, 1, None)
            if not k:
                b.conv(4 * inner, 1, source, stride=(stride, stride), bias=False)
                source = b.add("batch_norm2d", eps=EPS)
            b.add("relu", b.add("add", end, source))
    return _classifier(b)


def mobilenet(activation: str = "hardswish") -> Graph:
    """Inverted residual blocks, one of them with squeeze and excitation."""
    b = Builder(3, 8, 8)
    _normed(b, 4, 3, activation)
    for k, out in enumerate((4, 6)):
        source, hidden = b.last, 3 * b.shape[0]
        _normed(b, hidden, 1, activation)
        middle = _normed(b, hidden, 3, activation, groups=hidden)
        if k:
            b.add("adaptive_avg_pool2d")
            b.conv(3, 1)
            b.add("relu")
            b.conv(hidden, 1)
            b.add("mul", middle, b.add("hardsigmoid"))
        _normed(b, out, 1, None)
        if out == b.shapes[source][0]:
            b.add("add", b.last, source)
    _normed(b, 12, 1, activation)
    return _classifier(b)


def densenet(growth: int = 3) -> Graph:
    """A dense block with bottlenecks, a transition and a second block."""
    b = Builder(3, 8, 8)
    b.conv(4, bias=False)
    for block in range(2):
        features = [b.last]
        for _ in range(2):
            if len(features) > 1:
                b.add("concat", *features)
            b.add("batch_norm2d", eps=EPS)
            b.add("relu")
            b.conv(4 * growth, 1, bias=False)
            b.add("batch_norm2d", eps=EPS)
            b.add("relu")
            features.append(b.conv(growth, bias=False))
        b.add("concat", *features)
        b.add("batch_norm2d", eps=EPS)
        b.add("relu")
        if not block:
            b.conv(5, 1, bias=False)
            b.add("avg_pool2d", kernel_size=(2, 2), stride=(2, 2))
    return _classifier(b)


def squeezenet() -> Graph:
    """Two fire modules, plain convolutions with biases."""
    b = Builder(3, 8, 8)
    b.conv(6)
    b.add("relu")
    for _ in range(2):
        source = b.add("relu", b.conv(3, 1))
        ends = [b.add("relu", b.conv(4, kernel, source)) for kernel in (1, 3)]
        b.add("concat", *ends)
        b.add("max_pool2d", kernel_size=(2, 2), stride=(2, 2))
    b.conv(3, 1)
    b.add("adaptive_avg_pool2d")
    b.add("flatten")
    return b.graph()


def transformer(norm: str = "layer_norm") -> Graph:
    """Patches with learned positions, one pre-norm block, and a classifier of the mean token."""
    b = Builder(3, 6, 6)
    b.conv(8, 2, stride=(2, 2), padding=(0, 0))
    b.add("flatten", start=1)
    tokens = b.add("permute", dims=(1, 0))
    b.add("add", tokens, b.add("parameter", shape=(9, 8), axis=-1))
    source = b.last
    b.add(norm, eps=EPS)
    normed = b.last
    query, key, value = (b.add("linear", normed, out_channels=8) for _ in range(3))
    b.add("attention", query, key, value, heads=2, kv_heads=2, scale=0.5, kind="scores")
    source = b.add("add", source, b.add("linear", out_channels=8))
    b.add(norm, eps=EPS)
    b.add("linear", out_channels=16)
    b.add("gelu")
    b.add("add", source, b.add("linear", out_channels=8))
    b.add("reduce", kind="mean", axes=(0,))
    b.add("linear", out_channels=3)
    return b.graph()


def convnext() -> Graph:
    """Depthwise convolutions on maps, and linear layers on their permuted channels."""
    b = Builder(3, 8, 8)
    b.conv(6, 2, stride=(2, 2), padding=(0, 0))
    for _ in range(2):
        source = b.last
        b.conv(6, 3, groups=6)
        b.add("permute", dims=(1, 2, 0))
        b.add("layer_norm", eps=EPS)
        b.add("linear", out_channels=12)
        b.add("gelu")
        b.add("linear", out_channels=6)
        b.add("permute", dims=(2, 0, 1))
        b.add("add", source, b.last)
    return _classifier(b)


def signal() -> Graph:
    """1-d convolutions, grouped, with other ways of padding."""
    b = Builder(2, 24)
    for k, mode in enumerate(("zeros", "circular", "reflect", "replicate")):
        b.add(
            "conv1d",
            out_channels=8,
            kernel_size=(3,),
            padding=(2,),
            dilation=(2,),
            groups=1 if not k else 2,
            padding_mode=mode,
        )
        b.add("group_norm", groups=2, eps=EPS)
        b.add("leaky_relu" if k % 2 else "silu")
    b.add("max_pool1d", kernel_size=(2,), stride=(2,))
    b.add("flatten")
    b.add("linear", out_channels=3)
    return b.graph()


def volume() -> Graph:
    """3-d convolutions."""
    b = Builder(1, 4, 5, 6)
    source = ""
    for k in range(3):
        b.add("conv3d", out_channels=4, kernel_size=(3, 3, 3), padding=(1, 1, 1), bias=False)
        b.add("batch_norm3d", eps=EPS)
        if k == 2:
            b.add("add", b.last, source)
        source = b.add("relu")
    b.add("adaptive_avg_pool3d")
    b.add("flatten")
    b.add("linear", out_channels=3)
    return b.graph()


FAMILIES: dict[str, Callable[[], Graph]] = {
    family.__name__: family
    for family in (resnet, mobilenet, densenet, squeezenet, transformer, convnext, signal, volume)
}
