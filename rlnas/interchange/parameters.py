"""Tensors that do not depend on the input, as `parameter` nodes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rlnas.errors import GraphError
from rlnas.graph import Node
from rlnas.graph.facts import complete
from rlnas.interchange.spelling import identifier
from rlnas.interchange.values import BATCH, Value

if TYPE_CHECKING:
    from rlnas.interchange.record import Record


def constant(tracer: Record, tensor: Tensor, like: Value | None = None, *, rank: int | None = None) -> str:
    """Id of a `parameter` for a tensor that does not depend on the input.

    Args:
        like: An operand with which it broadcasts; tells which axis is the batch's.
        rank: Axes of the result that both broadcast to.
    """
    if tensor.untyped_storage().data_ptr() in tracer.written:
        raise GraphError("it reads a tensor that was changed through another view")

    def sample(values: Tensor) -> Tensor:
        if like is not None:
            values = _sample_of(tracer, values, like, rank or like.rank)
        while values.dim() > 1 and values.shape[0] == 1 and (like is None or values.dim() > len(like.shape)):
            values = values[0]
        scalar = like is not None and not like.shape and (rank or like.rank) == 1
        return values if values.dim() or scalar else values.reshape(1)

    values = sample(tensor.detach())
    order = sorted(range(values.dim()), key=lambda axis: -values.stride()[axis])
    if not tracer.literal or values.is_contiguous() or not values.permute(order).is_contiguous():
        return parameter(tracer, tensor, values, sample)
    stored = parameter(tracer, tensor, values.permute(order), lambda values: sample(values).permute(order))
    return tracer.add("permute", (stored,), dims=tuple([order.index(axis) for axis in range(len(order))]))


def parameter(tracer: Record, tensor: Tensor, values: Tensor, sample: Callable[[Tensor], Tensor]) -> str:
    """Id of a node for the values of a tensor; ``sample`` takes them from it."""
    tensor = tracer.constants.first(tensor)
    if tracer.alone:
        root, chain = tracer.constants.chain(tensor)
        if id(root) in tracer.alone:
            return _seen(tracer, tracer.alone[id(root)][0], [*[r.again for r in chain], sample])
    key = (id(tensor), tuple(values.shape))
    if key not in tracer.parameters:
        dtype = {torch.bool: "bool", torch.int64: "int64"}.get(values.dtype, "float32")
        if values.dtype in (torch.int32, torch.int16, torch.uint8):
            values, dtype = values.long(), "int64"
        if dtype == "float32" and not values.is_floating_point():
            raise GraphError(f"constants of type {values.dtype} are not known")
        trained = tracer.is_trained(tensor) and dtype == "float32"
        name = tracer.constants.names.get(id(tensor))
        made = tracer.unused(identifier(name), own=True) if name else tracer.unused("constant")
        node = complete(Node.make(made, "parameter", shape=tuple(values.shape), trained=trained, dtype=dtype))
        tracer.nodes.append(node)
        tracer.shapes[made] = tuple(values.shape)
        tracer.tensors[made] = values.clone()
        tracer.parameters[key] = (made, tensor)
        if trained:
            tracer.uses[made] = tensor, sample
    return tracer.parameters[key][0]


def _seen(tracer: Record, node: str, views: list[Callable[[Tensor], Tensor]]) -> str:
    """Id of a node that shows the value of another, which depends on no sample, through views."""
    for view in views:
        shape = tracer.shapes[node]
        shown = tracer.shown(node, view(torch.arange(math.prod(shape)).view(shape)), whole=True)
        if shown is None:
            raise GraphError("it reads a rearrangement of what was computed from parameters")
        node = shown
    return node


def _sample_of(tracer: Record, values: Tensor, like: Value, rank: int) -> Tensor:
    """A constant without the axis of the batch."""
    values = values.reshape(*[1] * (rank - values.dim()), *values.shape)
    at, merged = like.sample.batch + rank - like.rank, like.sample.merged
    if values.shape[at] == BATCH * merged and BATCH * merged > 1:
        outer, front = like.sample.outer, values.movedim(at, 0)
        split = front.reshape(outer, BATCH, merged // outer, *front.shape[1:]).transpose(0, 1).flatten(1, 2)
        if not bool((split[0] == split[1]).all()):
            raise GraphError("a constant differs between the samples of a batch")
        values = split[0].movedim(0, at)
    elif values.shape[at] != 1:
        raise GraphError("a constant does not fit the batch")
    return values.squeeze(at) if merged == 1 else values
