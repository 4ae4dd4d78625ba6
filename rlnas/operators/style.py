"""What a new layer looks like in a network: its kind by the value it reads, activation and norm by what is in use."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from rlnas.graph import OPS, Graph, Node
from rlnas.graph.edit import Names
from rlnas.graph.node import Value

GATES = frozenset({"sigmoid", "hardsigmoid", "log_sigmoid"})
"""Activations that make factors rather than features."""

HIDDEN = frozenset([op.name for op in OPS.values() if op.family == "activation"]) - GATES
"""Activations that make features."""

CONVOLUTIONS = ("conv1d", "conv2d", "conv3d")
TOKEN_NORMS = ("layer_norm", "rms_norm")
REMEMBERED = 32

Attrs = tuple[tuple[str, Value], ...]


class Form(NamedTuple):
    """How a value is laid out.

    Attributes:
        channels: Number of channels.
        places: Sizes of the map; empty where the channels are the last axis.
        rank: Axes of one sample.
    """

    channels: int
    places: tuple[int, ...]
    rank: int

    @property
    def conv(self) -> str:
        """Op of a convolution that reads it."""
        return CONVOLUTIONS[len(self.places) - 1]


class _Style(NamedTuple):
    activation: tuple[str, Attrs]
    norms: Mapping[str, Attrs]
    counts: Mapping[str, int]
    forms: Mapping[str, Form]


@lru_cache(maxsize=REMEMBERED)
def _style(graph: Graph) -> _Style:
    used: Counter[tuple[str, Attrs]] = Counter()
    reached: set[str] = set()
    forms: dict[str, Form] = {}
    axes = graph.channel_axes
    for node in graph.sorted_nodes:
        if node.op == "input" or not reached.isdisjoint(node.inputs):
            reached.add(node.id)
            form = _form(graph.shapes[node.id], axes[node.id])
            if form is not None:
                forms[node.id] = form
        if OPS[node.op].family in ("activation", "norm"):
            used[node.op, tuple([(k, v) for k, v in node.attrs if k != "shares"])] += 1
    ranked = sorted(used, key=lambda entry: (-used[entry], repr(entry)))
    plain = [entry for entry in ranked if entry[0] in HIDDEN and entry[0] != "prelu"]
    norms: dict[str, Attrs] = {}
    counts: Counter[str] = Counter()
    for op, attrs in ranked:
        if OPS[op].family == "norm":
            norms.setdefault(op, attrs)
            counts[op] += used[op, attrs]
    return _Style(plain[0] if plain else ("relu", ()), norms, counts, forms)


def _form(shape: tuple[int, ...], axis: int | None) -> Form | None:
    if axis is not None and axis == len(shape) - 1:
        return Form(shape[axis], (), len(shape))
    if axis == 0 and 2 <= len(shape) <= 4:
        return Form(shape[0], shape[1:], len(shape))
    return None


def form_of(graph: Graph, id: str) -> Form | None:
    """How a node's value is laid out; None where no layer could read it, or no sample reaches it."""
    return _style(graph).forms.get(id)


def kernel_obstacle(form: Form | None, kernel: float) -> str | None:
    """Why a same-padded layer of that kernel size makes no sense there."""
    if form is None:
        return "nothing tells along which axis its channels lie, so that no layer can read them"
    if not float(kernel).is_integer() or kernel < 1 or kernel % 2 == 0:
        return "the amount is the kernel size, an odd whole number"
    if not form.places:
        return None if kernel == 1 else "channels on the last axis take only a kernel of 1"
    if int(kernel) // 2 >= min(form.places):
        return f"a kernel of {int(kernel)} reaches past a map of {' x '.join(map(str, form.places))}"
    return None


class Chain:
    """New nodes, each reading the last one, in the style of a graph.

    Attributes:
        nodes: The nodes so far.
        last: Id of the last one.
        fill: How the tensors of each node with any are filled, as `rlnas.operators.fill` says.
    """

    def __init__(self, graph: Graph, source: str, *, names: Names | None = None) -> None:
        form = form_of(graph, source)
        assert form is not None
        self.graph, self.form, self.last = graph, form, source
        self.nodes: list[Node] = []
        self.fill: dict[str, Any] = {}
        self._names, self._channels = names or Names(graph), form.channels

    def add(self, op: str, *inputs: str, prefix: str | None = None, **attrs: Any) -> str:
        """Append any node; it reads the last one unless told otherwise."""
        node = Node.make(self._names.new(prefix or op), op, inputs or (self.last,), **attrs)
        self.nodes.append(node)
        self.last = node.id
        return node.id

    def parameter(self, prefix: str, shape: tuple[int, ...], fill: Any) -> str:
        """Append a learned tensor whose first axis is that of the channels."""
        node = Node.make(self._names.new(prefix), "parameter", (), shape=shape, axis=-len(shape))
        self.nodes.append(node)
        self.fill[node.id] = fill
        return node.id

    def layer(self, channels: int, fill: Any, *, kernel: int = 1, groups: int = 1, bias: bool = True) -> str:
        """Append a convolution that keeps the map's size, or a linear layer on the last axis."""
        if self.form.places:
            n = len(self.form.places)
            size = {"kernel_size": (kernel,) * n, "padding": (kernel // 2,) * n, "groups": groups}
            self.add(self.form.conv, prefix="conv", out_channels=channels, bias=bias, **size)
        else:
            self.add("linear", out_channels=channels, bias=bias)
        self.fill[self.last] = fill
        self._channels = channels
        return self.last

    def normed_layer(self, channels: int, *, kernel: int = 1, groups: int = 1) -> None:
        """Append a random layer and the network's norm; it has a bias where there is none."""
        bias = _norm(self.graph, self.form, channels) is None
        self.layer(channels, "fresh", kernel=kernel, groups=groups, bias=bias)
        self.norm()

    def activation(self, like: Node | None = None) -> str:
        """Append the network's most frequent activation, or another node's."""
        op, given = (like.op, like.attrs) if like else _style(self.graph).activation
        attrs: dict[str, Any] = dict(given)
        return self.add(op, **attrs)

    def norm(self) -> bool:
        """Append the kind of norm that the network has most of on such values, if any."""
        found = _norm(self.graph, self.form, self._channels)
        if found is None:
            return False
        op, attrs = found
        self.add(op, prefix={"batch": "bn"}.get(op.split("_")[0], "norm"), **attrs)
        self.fill[self.last] = "fresh"
        return True


def _norm(graph: Graph, form: Form, channels: int) -> tuple[str, dict[str, Any]] | None:
    """The kind of norm that the network has most of on values of that form, if it has more than one value to pool."""
    n, style = len(form.places), _style(graph)
    if n:
        fitting = [f"batch_norm{n}d", "group_norm", f"instance_norm{n}d"]
    else:
        fitting = [*TOKEN_NORMS, *(["batch_norm1d"] if form.rank == 1 else [])]
    found = [op for op in fitting if op in style.norms and dict(style.norms[op]).get("dims", 1) == 1]
    op = max(found, key=lambda op: style.counts[op], default=None)
    if op is None or (n and max(form.places) == 1) or (op in TOKEN_NORMS and channels == 1):
        return None
    attrs: dict[str, Any] = dict(style.norms[op])
    if op == "group_norm":
        attrs["groups"] = math.gcd(attrs["groups"], channels)
    return op, attrs
