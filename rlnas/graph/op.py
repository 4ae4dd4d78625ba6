"""What the op table says of one kind of operation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from rlnas.graph.flow import ELEMENTWISE, Flow
from rlnas.graph.node import Node, Shape

REQUIRED: Final = object()
"""Default of an attribute that a node must give."""

Init = Literal["weight", "bias", "one", "zero", "quarter", "count", "index", "mask"]


@dataclass(frozen=True)
class Param:
    """One tensor of a node.

    Attributes:
        shape: Size of each axis.
        axes: What each axis runs over: ``"out"`` for the channels the node makes or passes, ``"in"`` for those it
            reads, None for what never changes.
        init: How a fresh one is filled; ``"count"`` and ``"index"`` ones hold whole numbers, ``"mask"`` ones truths.
        trained: False for buffers, which count as no parameters.
        fan_in: Values that one output of a weight reads.
    """

    shape: Shape
    axes: tuple[str | None, ...]
    init: Init
    trained: bool = True
    fan_in: int = 1


Params = Mapping[str, Param]
Shapes = tuple[Shape, ...]


@dataclass(frozen=True)
class Op:
    """A row of the op table.

    Attributes:
        name: Kind of operation.
        family: Coarse kind, one of `rlnas.layout.OP_FAMILIES` (a depthwise convolution is told apart by its groups).
        shape: (node, input shapes) to the output shape; raises GraphError where they do not fit.
        source: (node, input shapes) to the constructor of a PyTorch module; None for a function.
        call: (node, names of the inputs) to a Python expression; None for a module.
        arity: Number of inputs; None for ``at_least`` or more.
        attributes: Names and defaults of attributes; `rlnas.graph.attributes.ATTRIBUTES` says which values they take.
        params: (node, input shapes) to the node's tensors; the one named ``""`` is the node itself.
        macs: (node, input shapes, output shape) to multiply-accumulates for one sample.
        flow: (node, input shapes, output shape) to how channels pass.
        resized: (node, old output shape, new output shape) to the node whose attributes follow new numbers of channels.
        commutative: True if the order of the inputs does not matter.
        view: True if the output shares its input's memory.
        idempotent: True if applying the op to its own output changes nothing.
        broadcasts: True if an input without a batch axis needs none.
    """

    name: str
    family: str
    shape: Callable[[Node, Shapes], Shape]
    source: Callable[[Node, Shapes], str] | None = None
    call: Callable[[Node, tuple[str, ...]], str] | None = None
    arity: int | None = 1
    at_least: int = 2
    attributes: Mapping[str, Any] = field(default_factory=dict)
    params: Callable[[Node, Shapes], Params] = lambda node, shapes: {}
    macs: Callable[[Node, Shapes, Shape], int] = lambda node, shapes, out: 0
    flow: Callable[[Node, Shapes, Shape], Flow] = lambda node, shapes, out: ELEMENTWISE
    resized: Callable[[Node, Shape, Shape], Node] = lambda node, old, new: node
    commutative: bool = False
    view: bool = False
    idempotent: bool = False
    broadcasts: bool = False
