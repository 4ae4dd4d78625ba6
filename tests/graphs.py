"""Random small graphs for property tests: every op of the table, coupled channels, grouped and depthwise layers."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import strategies as st

from rlnas.graph import OPS, Graph, Node, Shape
from rlnas.graph.facts import complete, facts_of

ACTIVATIONS: dict[str, dict[str, Any]] = {name: {} for name, op in OPS.items() if op.family == "activation"} | {
    "leaky_relu": {"negative_slope": 0.2},
    "elu": {"alpha": 0.5},
    "gelu": {"approximate": "tanh"},
}


class Builder:
    """Collects nodes; each reads the last one unless told otherwise."""

    def __init__(self, *shape: int) -> None:
        self.nodes = [Node.make("image", "input", shape=shape, dtype="float32")]
        self.shapes: dict[str, Shape] = {"image": shape}
        self.counts: dict[str, int] = {}
        self.last = "image"

    def add(self, op: str, *inputs: str, id: str | None = None, **attrs: Any) -> str:
        """Append a node, named by its op and a running number unless an id is given."""
        self.counts[op] = self.counts.get(op, 0) + 1
        node = complete(
            Node.make(id or f"{op}_{self.counts[op]}", op, inputs or (self.last,) * (OPS[op].arity != 0), **attrs)
        )
        self.nodes.append(node)
        self.shapes[node.id] = facts_of(node, tuple(self.shapes[i] for i in node.inputs)).shape
        self.last = node.id
        return node.id

    def conv(self, out: int, kernel: int = 3, *inputs: str, **attrs: Any) -> str:
        """Append a convolution that keeps the size of the map."""
        same = {"kernel_size": (kernel, kernel), "padding": (kernel // 2, kernel // 2)}
        return self.add("conv2d", *inputs, **({"out_channels": out} | same | attrs))

    @property
    def shape(self) -> Shape:
        """Shape of the last node."""
        return self.shapes[self.last]

    def graph(self) -> Graph:
        """The graph that ends at the last node."""
        return Graph(tuple(self.nodes), self.last)


def renamed(graph: Graph, seed: int) -> tuple[Graph, dict[str, str]]:
    """The same graph with other ids and its nodes in another order; and the new id of each old one."""
    rng = random.Random(seed)
    numbers = rng.sample(range(1000), len(graph))
    names = {node.id: f"n{number}" for node, number in zip(graph.nodes, numbers, strict=True)}
    nodes = [Node(names[n.id], n.op, tuple(names[i] for i in n.inputs), n.attrs) for n in graph.nodes]
    rng.shuffle(nodes)
    return Graph(tuple(nodes), names[graph.output]), names


def reordered(graph: Graph, seed: int) -> Graph:
    """The same graph with its nodes in another order."""
    nodes = list(graph.nodes)
    random.Random(seed).shuffle(nodes)
    return Graph(tuple(nodes), graph.output)


@st.composite
def graphs(draw: st.DrawFn, *, dropout: bool = False) -> Graph:
    """A small convolutional classifier.

    Args:
        dropout: Include dropout, under which operators keep the function in eval mode only.
    """
    b = Builder(draw(st.sampled_from([1, 3])), *draw(st.sampled_from([(5, 5), (6, 6), (8, 8), (5, 7)])))
    d = _Draw(draw, b, norm=draw(st.booleans()))
    if draw(st.booleans()):
        d.conv(4 * draw(st.integers(1, 2)))
    for _ in range(draw(st.integers(1, 3))):
        block = draw(st.sampled_from([*_BLOCKS, *(["dropout"] if dropout else [])]))
        d.dropout() if block == "dropout" else getattr(d, block)()
    d.head()
    graph = b.graph()
    return reordered(graph, draw(st.integers(0, 99))) if draw(st.booleans()) else graph


class _Draw:
    """Blocks of random layers, each appended to what is there."""

    def __init__(self, draw: st.DrawFn, b: Builder, *, norm: bool) -> None:
        self.draw, self.b, self.norm = draw, b, norm

    @property
    def channels(self) -> int:
        return self.b.shape[0]

    def activation(self) -> str:
        name = self.draw(st.sampled_from(["relu", *ACTIVATIONS]))  # relu twice as often
        return self.b.add(name, **(ACTIVATIONS[name] if self.draw(st.booleans()) else {}))

    def batch_norm(self) -> None:
        if self.norm:
            # Not the default of 1e-5: near-constant channels would magnify the rounding of sums beyond any tolerance.
            self.b.add("batch_norm2d", eps=self.draw(st.sampled_from([1e-2, 1e-1])), momentum=0.2)

    def conv(self, out: int, *, groups: int = 1, same: bool = False, act: bool = True) -> str:
        """A convolution, perhaps a BatchNorm, and an activation."""
        b, draw = self.b, self.draw
        _, height, width = b.shape
        kernel, dilation = draw(st.sampled_from([((1, 1), 1), ((3, 3), 1), ((3, 3), 2), ((1, 3), 1), ((2, 2), 1)]))
        if same and kernel == (2, 2):
            kernel = (3, 3)
        pad = tuple(dilation * (k // 2) for k in kernel)
        if height <= pad[0] or width <= pad[1]:
            kernel, dilation, pad = (1, 1), 1, (0, 0)
        step = st.integers(1, 2) if not same and min(height, width) >= 4 else st.just(1)
        b.add(
            "conv2d",
            out_channels=out,
            kernel_size=kernel,
            padding=pad,
            dilation=(dilation, dilation),
            stride=(draw(step), draw(step)),
            groups=groups,
            bias=draw(st.booleans()),
        )
        self.batch_norm()
        return self.activation() if act else b.last

    def plain(self) -> None:
        self.conv(self.draw(st.integers(1, 8)))

    def residual(self) -> None:
        source, channels = self.b.last, self.channels
        if self.draw(st.booleans()):
            self.conv(self.draw(st.integers(2, 6)), same=True)
        ends = [source, self.conv(channels, same=True, act=False)]
        if self.draw(st.booleans()):  # a second branch, from the same place
            self.b.last = source
            ends.append(self.conv(channels, same=True))
        self.b.add("add", *self.draw(st.permutations(ends)))
        if self.draw(st.booleans()):
            self.b.add("relu")

    def concat(self) -> None:
        source, ends = self.b.last, []
        for _ in range(2):
            self.b.last = source
            ends.append(self.conv(self.draw(st.integers(2, 4)), same=True))
        if self.draw(st.booleans()):
            ends.append(source)
        self.b.add("concat", *self.draw(st.permutations(ends)))

    def coupled(self) -> None:
        """A concat that meets a plain convolution at an add: its cells are parts of the other's."""
        source = self.b.last
        self.concat()
        joined, channels = self.b.last, self.channels
        self.b.last = source
        self.b.add("add", joined, self.conv(channels, same=True))

    def depthwise(self) -> None:
        self.conv(self.channels * self.draw(st.sampled_from([1, 1, 2])), groups=self.channels)
        self.conv(self.draw(st.integers(2, 6)))

    def grouped(self) -> None:
        if self.channels % 2:
            self.conv(4)
        self.conv(2 * self.draw(st.integers(1, 3)), groups=2)

    def pool(self) -> None:
        if min(self.b.shape[1:]) >= 3:
            name = self.draw(st.sampled_from(["max_pool2d", "avg_pool2d"]))
            extra = {"count_include_pad": self.draw(st.booleans())} if name == "avg_pool2d" else {}
            kernel = self.draw(st.sampled_from([(3, 3), (2, 3)]))
            ceil = self.draw(st.booleans())
            self.b.add(name, kernel_size=kernel, stride=(2, 1), padding=(1, 1), ceil_mode=ceil, **extra)

    def gate(self) -> None:
        """Squeeze and excitation, or a gate of one channel for all places."""
        b, source, channels = self.b, self.b.last, self.channels
        if self.draw(st.booleans()):
            b.add("adaptive_avg_pool2d")
            b.conv(self.draw(st.integers(1, 3)), 1)
            self.activation()
            b.conv(channels, 1)
        else:
            b.conv(1)
        b.add("mul", source, b.add("sigmoid"))

    def scale(self) -> None:
        """A factor for each channel on a branch."""
        b, source, channels = self.b, self.b.last, self.channels
        branch = self.conv(channels, same=True, act=False)
        factor = b.add("parameter", shape=(channels, 1, 1), axis=-3)
        b.add("add", source, b.add("mul", branch, factor))

    def normalized(self) -> None:
        """Statistics over channels."""
        if self.channels % 2:
            self.conv(4, act=False)
        self.b.add("group_norm", groups=self.draw(st.sampled_from([1, 2])), eps=1e-2)
        self.activation()

    def tokens(self) -> None:
        """Places as tokens: a norm and two linear layers on the last axis, and back."""
        b, (channels, height, width) = self.b, self.b.shape
        if self.draw(st.booleans()):
            b.add("flatten", start=1)
            forth, back = (1, 0), (1, 0)
        else:
            forth, back = (1, 2, 0), (2, 0, 1)
        source = b.add("permute", dims=forth)
        b.add(self.draw(st.sampled_from(["layer_norm", "rms_norm"])), eps=1e-2)
        b.add("linear", out_channels=self.draw(st.integers(2, 5)))
        self.activation()
        b.add("linear", out_channels=channels)
        b.add("add", source, b.last)
        b.add("permute", dims=back)
        if len(forth) == 2:
            b.add("reshape", shape=(channels, height, width))

    def sliced(self) -> None:
        """Some channels go their own way."""
        b, source, channels = self.b, self.b.last, self.channels
        if channels < 2:
            return
        at = self.draw(st.integers(1, channels - 1))
        first = b.add("slice", source, axis=0, start=0, stop=at)
        b.add("slice", source, axis=0, start=at, stop=channels)
        b.add("concat", first, self.conv(self.draw(st.integers(1, 4)), same=True))

    def mean(self) -> None:
        """A mean over places, half of which is taken off again."""
        source = self.b.last
        self.b.add("reduce", kind="mean", axes=(1, 2), keepdim=True)
        self.b.add("mul_scalar", value=0.5)
        self.b.add("sub", source, self.b.last)

    def identity(self) -> None:
        self.b.add("identity")

    def dropout(self) -> None:
        self.b.add("dropout", p=0.25)

    def head(self) -> None:
        """Flat features, perhaps of two sizes of map side by side, and some linear layers."""
        b, draw, source = self.b, self.draw, self.b.last
        size = draw(st.sampled_from([(1, 1), (2, 1), None]))
        if size is not None:
            b.add("adaptive_avg_pool2d", output_size=size)
        ends = [b.add("flatten")]
        if draw(st.booleans()) and draw(st.booleans()):
            b.add("adaptive_avg_pool2d", source, output_size=(2, 2))
            b.add("concat", b.add("flatten"), *ends)
        for _ in range(draw(st.integers(0, 2))):
            b.add("linear", out_channels=draw(st.integers(1, 6)), bias=draw(st.booleans()))
            self.activation()
        b.add("linear", out_channels=3)


_BLOCKS = (
    *("plain", "residual", "concat", "coupled", "depthwise", "grouped", "pool", "identity"),
    *("gate", "scale", "normalized", "tokens", "sliced", "mean"),
)
