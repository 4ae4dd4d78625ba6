"""What the op table says of one kind of operation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from rlnas.graph.node import Node, Shape

REQUIRED: Final = object()
"""Default of an attribute that a node must give."""

ChannelRule = Literal["fixed", "fresh", "grouped", "same", "concat", "flatten", "opaque"]
"""How channels pass through an op.

``fixed``: made here and not to be changed (a network's input). ``fresh``: made here, ``out_channels`` of them, each
reading every input channel. ``grouped``: as fresh, but output block q reads input block q only. ``same``: each output
channel comes from the input channel(s) of the same index, so all inputs are coupled. ``concat``: the inputs' channels
one after the other. ``flatten``: every channel becomes a run of features. ``opaque``: unknown; nothing may change.
"""

Init = Literal["weight", "bias", "one", "zero", "count"]


@dataclass(frozen=True)
class Param:
    """One tensor of a node.

    Attributes:
        shape: Size of each axis.
        axes: What each axis runs over: ``"out"`` channels, ``"in"`` channels, or None.
        init: How a fresh one is filled.
        trained: False for buffers, which count as no parameters.
    """

    shape: Shape
    axes: tuple[str | None, ...]
    init: Init
    trained: bool = True


Params = Mapping[str, Param]


@dataclass(frozen=True)
class Op:
    """A row of the op table.

    Attributes:
        name: Kind of operation.
        family: Coarse kind, one of `rlnas.layout.OP_FAMILIES` (a depthwise convolution is told apart by its groups).
        shape: (node, input shapes) to the output shape; raises GraphError where they do not fit.
        source: (node, input shapes) to the constructor of a PyTorch module; None for a function.
        call: (node, names of the inputs) to a Python expression; None for a module.
        arity: Number of inputs; None for two or more.
        attributes: Names and defaults of attributes; `rlnas.graph.attributes.ATTRIBUTES` says which values they take.
        params: (node, input shapes) to the node's tensors.
        macs: (node, input shapes, output shape) to multiply-accumulates for one sample.
        channels: (node, input shapes) to the rule by which channels pass.
        commutative: True if the order of the inputs does not matter.
        view: True if the output shares its input's memory.
        idempotent: True if applying the op to its own output changes nothing.
    """

    name: str
    family: str
    shape: Callable[[Node, tuple[Shape, ...]], Shape]
    source: Callable[[Node, tuple[Shape, ...]], str] | None = None
    call: Callable[[Node, tuple[str, ...]], str] | None = None
    arity: int | None = 1
    attributes: Mapping[str, Any] = field(default_factory=dict)
    params: Callable[[Node, tuple[Shape, ...]], Params] = lambda node, shapes: {}
    macs: Callable[[Node, tuple[Shape, ...], Shape], int] = lambda node, shapes, out: 0
    channels: Callable[[Node, tuple[Shape, ...]], ChannelRule] = lambda node, shapes: "same"
    commutative: bool = False
    view: bool = False
    idempotent: bool = False
