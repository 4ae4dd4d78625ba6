"""Black boxes: calls that are written down as their own text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rlnas.errors import GraphError
from rlnas.interchange.spelling import SPREADS, call_text, plain_name
from rlnas.interchange.values import BATCH, Value
from rlnas.interchange.views import Sample

if TYPE_CHECKING:
    from rlnas.interchange.trace import Tracer

RECURRENT = frozenset({"lstm", "gru", "rnn_tanh", "rnn_relu"})


class Text(str):
    """An argument that is source text already."""


def write_box(tracer: Tracer, func: Any, args: Any, kwargs: dict[str, Any], out: Any) -> None:
    """Write a call down as its own text."""
    operands: list[str] = []
    like: list[Value] = []

    def place(id: str) -> str:
        operands.append(id)
        return "{" + str(len(operands) - 1) + "}"

    def text(value: Any) -> str:
        if isinstance(value, Tensor) and tracer.is_traced(value):
            like.append(found := tracer.value(value))
            return _as_it_was(place(found.node), found)
        if isinstance(value, Tensor):
            return _constant_text(tracer, value, place)
        if isinstance(value, list | tuple):
            inner = ", ".join([text(v) for v in value])
            return f"[{inner}]" if isinstance(value, list) else f"({inner}{',' * (len(value) == 1)})"
        if isinstance(value, Text):
            return value
        if isinstance(value, torch.dtype) or value is None or isinstance(value, bool | int | float | str):
            return str(value) if isinstance(value, torch.dtype) else repr(value)
        if isinstance(value, slice):
            return f"slice({value.start}, {value.stop}, {value.step})"
        if value is Ellipsis:
            return "..."
        raise GraphError(f"a black box cannot keep the argument {value!r}")

    name = plain_name(func)
    if name in RECURRENT and not tracer.is_traced(args[1]):
        traced = text(args[0])
        states = [_zeros_text(t, traced, like[0].sample) for t in _flat(args[1])]
        words = [traced, f"({', '.join(states)})" if len(states) > 1 else states[0], *[text(a) for a in args[2:]]]
    else:
        words = [text(a) for a in args]
    words += [f"{k}={text(v)}" for k, v in kwargs.items()]
    call = call_text(func, words)
    if call is None:
        raise GraphError(f"{name} is not offered by torch under a name, so that no source could call it")
    results = out if isinstance(out, list | tuple) else (out,)
    for k, tensor in enumerate(results):
        if not isinstance(tensor, Tensor):
            continue
        found = _batch_axis(tensor, like[0])
        if found is not None:
            whole = call if tensor is out else f"{call}[{k}]"
            _boxed(tracer, whole, operands, tensor, found, name)


def _boxed(tracer: Tracer, call: str, operands: list[str], out: Tensor, batch: Sample, name: str) -> None:
    at, merged = batch.batch, batch.merged
    shape = (*out.shape[:at], *out.shape[at + 1 :])
    if merged > 1:
        shape = (merged, *out.shape[1:])
        parts = f"({batch.outer}, -1, {merged // batch.outer})"
        call += (
            f".unflatten(0, (-1, {merged}))"
            if batch.outer == 1
            else f".unflatten(0, {parts}).transpose(0, 1).flatten(1, 2)"
        )
    elif at:
        call = f"{call}.movedim({at}, 0)"
    made = tracer.add("opaque", operands, name=tracer.unused(name), text=call, shape=shape)
    tracer.result(made, out, Value(made, shape, replace(batch, shape=shape), out.dim()))


def _constant_text(tracer: Tracer, tensor: Tensor, place: Callable[[str], str]) -> str:
    """Text of a constant within a black box; of a part of a parameter what it is a part of, and how it is taken."""
    root, chain = tracer.constants.chain(tensor)
    repeated = any(plain_name(recipe.func) in SPREADS for recipe in chain)  # perhaps for each sample
    partial = tracer.constants.is_parameter(root) and root.numel() != tensor.numel() and not repeated
    if partial or id(root) in tracer.plain:
        recipe = tracer.constants.recipes.get(id(tracer.constants.first(tensor)))
        if recipe is None:
            return place(tracer.raw(tensor))
        words = [_constant_text(tracer, a, place) if isinstance(a, Tensor) else repr(a) for a in recipe.args]
        words += [
            f"{k}={_constant_text(tracer, a, place) if isinstance(a, Tensor) else a!r}"
            for k, a in recipe.kwargs.items()
        ]
        text = call_text(recipe.func, words)
        if text is not None:
            return text if recipe.place is None else f"{text}[{recipe.place}]"
    if tensor.is_complex():
        return f"torch.view_as_complex({place(tracer.raw(torch.view_as_real(tensor)))})"
    if tensor.dim() and tensor.shape[0] == BATCH and id(tensor) not in tracer.constants.names:
        if not bool((tensor[0] == tensor[1]).all()):
            raise GraphError("a constant differs between the samples of a batch")
        rest = ", ".join(["-1"] * (tensor.dim() - 1))
        made = place(tracer.raw(tensor[:1].clone()))
        return f"{made}.expand({{0}}.shape[0], {rest})" if rest else f"{made}.expand({{0}}.shape[0])"
    return place(tracer.raw(tensor)) if tensor.dim() else f"{place(tracer.raw(tensor.reshape(1)))}[0]"


def _zeros_text(tensor: Tensor, traced: str, sample: Sample) -> str:
    """Text of the first state of a recurrent network."""
    if bool(tensor.any()) or tensor.dim() != 3:
        raise GraphError("its first state is not zero")
    return f"{traced}.new_zeros({tensor.shape[0]}, {traced}.shape[{sample.batch}], {tensor.shape[2]})"


def _flat(value: Any) -> list[Tensor]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _as_it_was(name: str, value: Value) -> str:
    """Text of an operand with its batch where it was in the running module."""
    at, merged = value.sample.batch, value.sample.merged
    if merged > 1 and at:
        raise GraphError("samples lie side by side in an axis that is not the first; keep the batch in front")
    if merged > 1:
        outer = value.sample.outer
        return (
            f"{name}.flatten(0, 1)"
            if outer == 1
            else f"{name}.unflatten(1, ({outer}, -1)).transpose(0, 1).flatten(0, 2)"
        )
    return f"{name}.movedim(0, {at})" if at else name


def _batch_axis(out: Tensor, like: Value) -> Sample | None:
    """Where the batch is in the result of a black box: as in what it reads, if that fits."""
    held = like.sample
    if held.merged > 1 and not held.batch and out.dim() and out.shape[0] == BATCH * held.merged:
        return Sample(None, (), 0, held.merged, held.outer)
    for at in (held.batch, 0, 1):
        if at < out.dim() and out.shape[at] == BATCH:
            return Sample(None, (), at)
    return None
