"""How calls of PyTorch functions are written down as nodes: values joined, cut, chosen or written into."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from rlnas.errors import GraphError
from rlnas.interchange.calls import HANDLERS, handles, tuple_of
from rlnas.interchange.changes import before
from rlnas.interchange.trace import Tracer
from rlnas.interchange.values import ALONG, BATCH, Traced, Unknown, Value, together
from rlnas.interchange.views import base_positions, placed


@handles("hstack")
def _hstack(tracer: Tracer, out: Tensor, tensors: Sequence[Tensor]) -> None:
    _cat(tracer, out, tensors, 0 if out.dim() == 1 else 1)


def _cat(tracer: Tracer, out: Tensor, tensors: Sequence[Tensor], dim: int = 0) -> None:
    like = next(tracer.value(t) for t in tensors if tracer.is_traced(t))
    if dim % like.rank == like.sample.batch and all(tracer.is_traced(t) for t in tensors):
        _side_by_side(tracer, out, tensors, like)
        return
    axis = like.axis(dim)
    operands: list[Value | str] = []
    for tensor in tensors:
        if not tracer.is_traced(tensor):
            operands.append(tracer.constant(tensor, like))
        elif tensor.numel():
            operands.append(together(tracer.value(tensor), like))
    if len(operands) == 1:
        tracer.result(like.node, out, like)
    else:
        tracer.emit("concat", operands, out, like=like, axis=axis)


handles("cat", "concat", "concatenate")(_cat)


def _side_by_side(tracer: Tracer, out: Tensor, tensors: Sequence[Tensor], like: Value) -> None:
    """Values are joined along the batch, each with all its samples."""
    known = [tracer.known(t) for t in tensors]
    at, n = like.sample.batch, len(tensors)
    if like.sample.merged == 1 and len({k.node for k in known}) == 1:
        whole = base_positions(BATCH, tracer.shapes[known[0].node])
        places = torch.cat([whole if k.positions is None else k.positions for k in known], at)
        tracer.know(out, Traced(known[0].node, places, out))
        return
    values = [together(tracer.value(t), like) for t in tensors]
    if like.sample.merged > 1 or len({v.shape for v in values}) > 1:
        raise GraphError(ALONG)
    shape = like.shape
    parts = [tracer.add("reshape", (v.node,), shape=(*shape[:at], 1, *shape[at:])) for v in values]
    made = tracer.add("concat", parts, axis=at)
    tracer.know(out, Traced(made, placed(BATCH, tracer.shapes[made], at, n, n), out))


@handles("stack")
def _stack(tracer: Tracer, out: Tensor, tensors: Sequence[Tensor], dim: int = 0) -> None:
    like, at = tracer.value(next(t for t in tensors if tracer.is_traced(t))), dim % out.dim()
    batch = like.sample.batch + (at <= like.sample.batch)
    if like.sample.merged > 1:
        raise GraphError("samples lie side by side in an axis that is not the first; keep the batch in front")
    axis = at - (at > batch)
    ids = []
    for tensor in tensors:
        node = together(tracer.value(tensor), like).node if tracer.is_traced(tensor) else tracer.constant(tensor, like)
        shape = tracer.shapes[node]
        ids.append(tracer.add("reshape", (node,), shape=(*shape[:axis], 1, *shape[axis:])))
    tracer.result(tracer.add("concat", ids, axis=axis), out, like, batch=batch)


@handles("pad")
def _pad(tracer: Tracer, out: Tensor, input: Tensor, pad: Any, mode: str = "constant", value: Any = None) -> None:
    x, amounts = tracer.value(input), tuple_of(pad, 1)
    if x.sample.batch >= x.rank - len(amounts) // 2:
        raise GraphError("it pads the batch")
    kind = "zeros" if mode == "constant" else mode
    tracer.emit("pad", [x], out, like=x, amounts=amounts, padding_mode=kind, value=float(value or 0.0))


def _dropout(op: str) -> Callable[..., None]:
    def write(
        tracer: Tracer, out: Tensor, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> None:
        if not 0 < p < 1:
            tracer.alias(out, input)
            return
        found, x = tracer.known(input), tracer.value(input)
        tracer.reads[tracer.emit(op, [x], out, like=x, p=p)] = [found]

    return write


for _name, _op in {"dropout": "dropout", "feature_dropout": "dropout2d", "alpha_dropout": "alpha_dropout"}.items():
    handles(_name)(_dropout(_op))
for _n in (1, 2, 3):
    handles(f"dropout{_n}d")(_dropout(f"dropout{_n}d"))


@handles("masked_fill")
def _masked_fill(tracer: Tracer, out: Tensor, input: Tensor, mask: Tensor, value: Any) -> None:
    if tracer.is_traced(value):
        raise GraphError("what it fills in depends on the input; use torch.where")
    if not tracer.is_traced(input):
        full = torch.full((), float(value), dtype=out.dtype)
        _where(tracer, out, mask, full, input)
        return
    x, found = tracer.value(input), tracer.known(input)
    hidden = tracer.value(mask, broadcast=True) if tracer.is_traced(mask) else tracer.constant(mask, x)
    made = tracer.emit("masked_fill", [x, aligned(tracer, hidden, x)], out, like=x, text=number_text(float(value)))
    tracer.reads[made] = [found]


def number_text(number: float) -> str:
    """Source text of a number."""
    return repr(number) if number == number and abs(number) != float("inf") else f"float({str(number)!r})"


def aligned(tracer: Tracer, value: Value | str, like: Value) -> Value | str:
    """An operand whose batch must stand where another's does; it gets axes in between if it has fewer."""
    if isinstance(value, str):
        return value
    return together(value, like)


@handles("where")
def _where(tracer: Tracer, out: Tensor, condition: Tensor, input: Any = None, other: Any = None) -> None:
    if input is None:
        raise GraphError("places where something holds depend on the input")
    given = [condition, input, other]
    like = tracer.value(next(t for t in given if tracer.is_traced(t)), broadcast=True)
    full = [torch.as_tensor(t, dtype=out.dtype) if not isinstance(t, Tensor) else t for t in given]
    operands: list[Value | str] = [
        tracer.value(t, broadcast=True) if tracer.is_traced(t) else tracer.constant(t, like, rank=out.dim())
        for t in full
    ]
    traced = [v for v in operands if isinstance(v, Value)]
    like = max(traced, key=lambda v: v.rank)
    operands = [aligned(tracer, v, like) for v in operands]
    made = tracer.add("where", full_shape(tracer, operands, out, like))
    tracer.result(made, out, like, batch=like.sample.batch + out.dim() - like.rank)


def full_shape(tracer: Tracer, operands: Sequence[Value | str], out: Tensor, like: Value) -> list[str]:
    """Ids of operands whose samples broadcast to that of the result; if none is large enough, one is expanded."""
    at = like.sample.batch + out.dim() - like.rank
    sizes = list(out.shape)
    if like.sample.merged > 1:
        sizes[at] = like.sample.merged
    else:
        del sizes[at]
    ids = [v if isinstance(v, str) else v.node for v in operands]
    shapes = [tracer.shapes[i] for i in ids]
    padded = [(1,) * (len(sizes) - len(shape)) + shape for shape in shapes]
    reached = [max(column) for column in zip(*padded, strict=True)] if sizes else []
    if reached != sizes:
        first = next(i for i, v in enumerate(operands) if isinstance(v, Value))
        ids[first] = tracer.add("expand", (ids[first],), shape=tuple(sizes))
    return ids


@handles("one_hot")
def _one_hot(tracer: Tracer, out: Tensor, tensor: Tensor, num_classes: int = -1) -> None:
    if num_classes < 1:
        raise GraphError("its number of classes depends on the input; give num_classes")
    x = tracer.value(tensor)
    tracer.result(tracer.add("one_hot", (x.node,), num_embeddings=num_classes), out, x, batch=x.sample.batch)


@handles("copy")
def _copy(tracer: Tracer, out: Tensor, input: Any, src: Tensor) -> None:
    if src.shape != out.shape:
        raise GraphError("it copies a value of another shape")
    tracer.alias(out, src)


TYPES = {torch.bool: "bool", torch.int64: "int64", torch.int32: "int64", torch.float32: "float32"}


def cast(tracer: Tracer, name: str, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> None:
    """A change of type, or none."""
    if out.dtype == args[0].dtype:
        if out is not args[0]:
            tracer.alias(out, args[0])
    elif out.dtype in TYPES or (out.dtype == torch.float64 and not args[0].is_floating_point()):
        x = tracer.value(args[0])
        tracer.emit("cast", [x], out, like=x, dtype=TYPES.get(out.dtype, "float32"))
    else:
        raise GraphError(f"it turns {args[0].dtype} into {out.dtype}, which is not known")


for _name in ("float", "double", "half", "bfloat16", "to", "type_as", "type", "cpu", "long", "int", "bool"):
    HANDLERS[_name] = cast


# ------------------------------------------------------------------------------------------- writing into a part


def write(tracer: Tracer, name: str, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> None:
    """A value is written into a part of a tensor: (the tensor, what it was before, the part, the value)."""
    target, old, index, value = args
    if isinstance(value, Tensor) and (held := before(tracer, target, value)) is not None:
        old = held
    if isinstance(old, Unknown):
        raise GraphError(f"it writes into {old.why}")
    if tracer.is_traced(index):
        raise GraphError("places to write to depend on the input; use torch.where")
    marked = torch.zeros(target.shape, dtype=torch.bool)
    marked[index] = True
    base: Tensor = old if isinstance(old, Tensor) else torch.empty_like(target)
    if not isinstance(old, Tensor):
        tracer.know(base, old)
    if tracer.is_traced(value):
        _write_value(tracer, target, base, index if isinstance(index, tuple) else (index,), value)
    elif isinstance(value, Tensor) and value.numel() > 1:
        filled = torch.zeros_like(target)
        filled[index] = value
        HANDLERS["where"](tracer, "where", (marked, filled, base), {}, target)
    else:
        HANDLERS["masked_fill"](tracer, "masked_fill", (base, marked, value), {}, target)


HANDLERS["setitem"] = write


def _write_value(tracer: Tracer, target: Tensor, base: Tensor, index: tuple[Any, ...], value: Tensor) -> None:
    """The part is given by numbers and slices, a value of the graph is written into it."""
    if any(not isinstance(i, int | slice) and i is not Ellipsis for i in index):
        raise GraphError("values can be written into slices, not to places from a list; use torch.cat or torch.where")
    if Ellipsis in index:
        k, missing = index.index(Ellipsis), target.dim() - len(index) + 1
        index = (*index[:k], *[slice(None)] * missing, *index[k + 1 :])
    ranges = [
        range(n)[i] if isinstance(i, slice) else range(i % n, i % n + 1)
        for i, n in zip(index, target.shape, strict=False)
    ]
    ranges += [range(n) for n in target.shape[len(ranges) :]]
    kept = [d for d in range(target.dim()) if d >= len(index) or isinstance(index[d], slice)]
    shape = [len(r) for r in ranges]
    spread = value.expand([shape[d] for d in kept])
    part = spread.reshape([n if d in kept else 1 for d, n in enumerate(shape)])
    for made, func, rest, source in (
        (spread, Tensor.expand, spread.shape, value),
        (part, Tensor.reshape, part.shape, spread),
    ):
        tracer.show(func, source, tuple(rest), made)
    x = tracer.value(part)
    at = x.sample.batch
    if x.sample.merged > 1 or ranges[at] != range(target.shape[at]):
        raise GraphError("it writes into some samples of a batch only")
    whole = tracer.value(base).node if tracer.is_traced(base) else tracer.constant(base, x)
    axes = [(d - (d > at), r) for d, r in enumerate(ranges) if d != at and r != range(target.shape[d])]

    def put(into: str, left: list[tuple[int, range]]) -> str:
        if not left:
            return x.node
        axis, places = left[0]
        words: dict[str, Any] = {"axis": axis, "start": places.start, "stop": places[-1] + 1, "step": places.step}
        inner = x.node if len(left) == 1 else put(tracer.add("slice", (into,), **words), left[1:])
        return tracer.add("write", (into, inner), **words)

    tracer.result(put(whole, axes), target, x)
