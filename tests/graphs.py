"""Random graphs for property tests: every op of the table, coupled channels, grouped and depthwise convolutions."""

from __future__ import annotations

from hypothesis import strategies as st

from rlnas.graph import OPS, Graph, Node
from rlnas.graph.graph import complete

ACTIVATIONS = tuple(name for name, op in OPS.items() if op.family == "activation")


class Builder:
    """Collects nodes with running names."""

    def __init__(self, channels: int, size: int) -> None:
        self.nodes = [Node.make("image", "input", shape=(channels, size, size))]
        self.counts: dict[str, int] = {}
        self.last = "image"

    def add(self, op: str, *inputs: str, **attrs: object) -> str:
        """Append a node that reads ``inputs``, or the last one."""
        self.counts[op] = self.counts.get(op, 0) + 1
        node = complete(Node.make(f"{op}_{self.counts[op]}x", op, tuple(inputs) or (self.last,), **attrs))
        self.nodes.append(node)
        self.last = node.id
        return node.id

    def graph(self) -> Graph:
        """The graph that ends at the last node."""
        return Graph(tuple(self.nodes), self.last)

    def shape(self) -> tuple[int, ...]:
        """Shape of the last node."""
        return self.graph().shapes[self.last]


@st.composite
def graphs(draw: st.DrawFn, *, dropout: bool = False) -> Graph:
    """A small convolutional classifier."""
    b = Builder(draw(st.sampled_from([1, 3])), draw(st.sampled_from([5, 6, 8])))
    norm = draw(st.booleans())
    _conv(draw, b, 4 * draw(st.integers(1, 2)), norm=norm)
    for _ in range(draw(st.integers(1, 3))):
        block = draw(st.sampled_from(sorted(_BLOCKS)))
        _BLOCKS[block](draw, b, norm)
    if dropout:
        b.add("dropout", p=0.25)
    if draw(st.booleans()):
        b.add("adaptive_avg_pool2d", output_size=(1, 1))
    b.add("flatten")
    for _ in range(draw(st.integers(0, 2))):
        b.add("linear", out_channels=draw(st.integers(2, 6)), bias=draw(st.booleans()))
        b.add(draw(st.sampled_from(ACTIVATIONS)))
    b.add("linear", out_channels=3)
    return b.graph()


def _conv(draw: st.DrawFn, b: Builder, out: int, *, norm: bool, groups: int = 1, stride: int = 1) -> str:
    k, dilation = draw(st.sampled_from([(1, 1), (3, 1), (3, 2)]))
    if min(b.shape()[1:]) <= dilation * (k // 2):
        k, dilation = 1, 1
    pad = dilation * (k // 2)
    b.add(
        "conv2d",
        out_channels=out,
        kernel_size=(k, k),
        padding=(pad, pad),
        dilation=(dilation, dilation),
        stride=(stride, stride),
        groups=groups,
        bias=draw(st.booleans()),
    )
    if norm:
        b.add("batch_norm2d")
    return b.add(draw(st.sampled_from(ACTIVATIONS)))


def _plain(draw: st.DrawFn, b: Builder, norm: bool) -> None:
    stride = 2 if min(b.shape()[1:]) >= 4 and draw(st.booleans()) else 1
    _conv(draw, b, draw(st.integers(2, 8)), norm=norm, stride=stride)


def _residual(draw: st.DrawFn, b: Builder, norm: bool) -> None:
    source, channels = b.last, b.shape()[0]
    _conv(draw, b, draw(st.integers(2, 6)), norm=norm)
    b.add("conv2d", out_channels=channels, kernel_size=(3, 3), padding=(1, 1), bias=not norm)
    if norm:
        b.add("batch_norm2d")
    b.add("add", source, b.last)
    if draw(st.booleans()):
        b.add("relu")


def _concat(draw: st.DrawFn, b: Builder, norm: bool) -> None:
    source = b.last
    first = _conv(draw, b, draw(st.integers(2, 4)), norm=norm)
    b.last = source
    second = _conv(draw, b, draw(st.integers(2, 4)), norm=norm)
    b.add("concat", first, second)


def _coupled(draw: st.DrawFn, b: Builder, norm: bool) -> None:
    """A concat that meets a plain convolution at an add: its cells are parts of the other's."""
    source = b.last
    _concat(draw, b, norm)
    joined, channels = b.last, b.shape()[0]
    b.last = source
    other = _conv(draw, b, channels, norm=norm)
    b.add("add", joined, other)


def _depthwise(draw: st.DrawFn, b: Builder, norm: bool) -> None:
    _conv(draw, b, b.shape()[0], norm=norm, groups=b.shape()[0])
    _conv(draw, b, draw(st.integers(2, 6)), norm=norm)


def _grouped(draw: st.DrawFn, b: Builder, norm: bool) -> None:
    if b.shape()[0] % 2:
        _conv(draw, b, 4, norm=norm)
    _conv(draw, b, 2 * draw(st.integers(2, 3)), norm=norm, groups=2)


def _pool(draw: st.DrawFn, b: Builder, norm: bool) -> None:
    if min(b.shape()[1:]) >= 3:
        name = draw(st.sampled_from(["max_pool2d", "avg_pool2d"]))
        b.add(name, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1), ceil_mode=draw(st.booleans()))


_BLOCKS = {
    "conv": _plain,
    "residual": _residual,
    "concat": _concat,
    "coupled": _coupled,
    "depthwise": _depthwise,
    "grouped": _grouped,
    "pool": _pool,
}
