"""Networks of the families that people bring, built node by node."""

from __future__ import annotations

from collections.abc import Callable

from rlnas.graph import Graph
from tests.graphs import Builder


def _conv(
    b: Builder, out: int, kernel: int, *inputs: str, act: str | None = "relu", stride: int = 1, groups: int = 1
) -> str:
    b.conv(out, kernel, *inputs, stride=(stride, stride), groups=groups, bias=False)
    b.add("batch_norm2d")
    return b.add(act) if act else b.last


def _head(b: Builder, classes: int) -> Graph:
    b.add("adaptive_avg_pool2d")
    b.add("flatten")
    b.add("linear", out_channels=classes)
    return b.graph()


def resnet20(width: int = 16, blocks: int = 3) -> Graph:
    """The CIFAR form, with projecting shortcuts."""
    b = Builder(3, 32, 32)
    _conv(b, width, 3)
    for stage in range(3):
        for block in range(blocks):
            source, stride = b.last, 2 if stage and not block else 1
            _conv(b, width << stage, 3, stride=stride)
            main = _conv(b, width << stage, 3, act=None)
            short = _conv(b, width << stage, 1, source, act=None, stride=stride) if stride == 2 else source
            b.add("add", main, short)
            b.add("relu")
    return _head(b, 10)


def mobilenet() -> Graph:
    """Inverted residuals, some with squeeze and excitation."""
    b = Builder(3, 32, 32)
    _conv(b, 8, 3, act="relu6", stride=2)
    _conv(b, 8, 3, act="relu6", groups=8)
    _conv(b, 8, 1, act=None)
    for out, repeats, stride, squeeze in ((12, 2, 2, False), (16, 3, 2, True)):
        for block in range(repeats):
            source, wide = b.last, 4 * b.shape[0]
            _conv(b, wide, 1, act="relu6")
            inner = _conv(b, wide, 3, act="relu6", stride=1 if block else stride, groups=wide)
            if squeeze:
                b.add("adaptive_avg_pool2d")
                b.conv(4, 1)
                b.add("relu")
                b.conv(wide, 1)
                b.add("mul", inner, b.add("hardsigmoid"))
            _conv(b, out, 1, act=None)
            if block:
                b.add("add", source, b.last)
    _conv(b, 64, 1, act="relu6")
    b.add("adaptive_avg_pool2d")
    b.add("flatten")
    b.add("dropout", p=0.2)
    b.add("linear", out_channels=10)
    return b.graph()


def densenet(layers: tuple[int, ...] = (4, 6), growth: int = 8) -> Graph:
    """Every layer joins all features before it, as in torchvision."""
    b = Builder(3, 32, 32)
    _conv(b, 16, 3)
    for i, number in enumerate(layers):
        features = [b.last]
        for _ in range(number):
            if len(features) > 1:
                b.add("concat", *features)
            for out, kernel in ((4 * growth, 1), (growth, 3)):
                b.add("batch_norm2d")
                b.add("relu")
                b.conv(out, kernel, bias=False)
            features.append(b.last)
        b.add("concat", *features)
        b.add("batch_norm2d")
        b.add("relu")
        if i + 1 < len(layers):
            b.conv(b.shape[0] // 2, 1, bias=False)
            b.add("avg_pool2d", kernel_size=(2, 2), stride=(2, 2))
    return _head(b, 10)


def vit(depth: int = 3, width: int = 48, heads: int = 3) -> Graph:
    """Pre-norm blocks over patches and a class token."""
    b = Builder(3, 32, 32)
    b.conv(width, 8, stride=(8, 8), padding=(0, 0))
    b.add("flatten", start=1)
    patches = b.add("permute", dims=(1, 0))
    token = b.add("parameter", shape=(1, width), axis=-1)
    tokens = b.add("concat", token, patches, axis=0)
    b.add("add", tokens, b.add("parameter", shape=(17, width), axis=-1))
    for _ in range(depth):
        source = b.last
        norm = b.add("layer_norm", eps=1e-6)
        parts = [b.add("linear", norm, out_channels=width) for _ in range(3)]
        b.add("attention", *parts, heads=heads, kv_heads=heads, scale=0.25)
        b.add("linear", out_channels=width)
        source = b.add("add", source, b.last)
        b.add("layer_norm", eps=1e-6)
        b.add("linear", out_channels=4 * width)
        b.add("gelu")
        b.add("linear", out_channels=width)
        b.add("add", source, b.last)
    b.add("layer_norm", eps=1e-6)
    b.add("slice", axis=0, start=0, stop=1)
    b.add("flatten")
    b.add("linear", out_channels=10)
    return b.graph()


def fused_vit() -> Graph:
    """One linear layer for queries, keys and values."""
    b = Builder(3, 16, 16)
    b.conv(32, 4, stride=(4, 4), padding=(0, 0))
    b.add("flatten", start=1)
    b.add("permute", dims=(1, 0))
    for _ in range(2):
        source = b.last
        b.add("layer_norm")
        joint = b.add("linear", out_channels=96)
        parts = [b.add("slice", joint, axis=1, start=32 * i, stop=32 * i + 32) for i in range(3)]
        b.add("attention", *parts, heads=4, kv_heads=4, scale=0.35)
        b.add("linear", out_channels=32)
        source = b.add("add", source, b.last)
        b.add("layer_norm")
        b.add("linear", out_channels=64)
        b.add("gelu")
        b.add("linear", out_channels=32)
        b.add("add", source, b.last)
    b.add("layer_norm")
    b.add("reduce", kind="mean", axes=(0,))
    b.add("linear", out_channels=10)
    return b.graph()


def squeezenet() -> Graph:
    """Fire modules."""
    b = Builder(3, 32, 32)
    b.conv(16, 3)
    b.add("relu")
    for squeeze, pool in ((4, False), (4, True), (8, False)):
        b.conv(squeeze, 1)
        source = b.add("relu")
        ends = []
        for kernel in (1, 3):
            b.conv(4 * squeeze, kernel, source)
            ends.append(b.add("relu"))
        b.add("concat", *ends)
        if pool:
            b.add("max_pool2d", kernel_size=(3, 3), stride=(2, 2))
    b.add("dropout")
    b.conv(10, 1)
    b.add("relu")
    b.add("adaptive_avg_pool2d")
    b.add("flatten")
    return b.graph()


def vgg() -> Graph:
    """A plain chain."""
    b = Builder(3, 32, 32)
    for width, repeats in ((16, 2), (32, 2), (64, 3)):
        for _ in range(repeats):
            _conv(b, width, 3)
        b.add("max_pool2d", kernel_size=(2, 2), stride=(2, 2))
    b.add("flatten")
    b.add("linear", out_channels=64)
    b.add("relu")
    b.add("dropout")
    b.add("linear", out_channels=10)
    return b.graph()


NETS: dict[str, Callable[[], Graph]] = {
    "resnet20": resnet20,
    "mobilenet": mobilenet,
    "densenet": densenet,
    "vit": vit,
    "fused_vit": fused_vit,
    "squeezenet": squeezenet,
    "vgg": vgg,
}
