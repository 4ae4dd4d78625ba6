"""How values lie in memory, where that changes how sums over them round."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rlnas.graph import OPS
from rlnas.interchange.values import BATCH, Traced
from rlnas.interchange.views import Sample

if TYPE_CHECKING:
    from rlnas.interchange.record import Record


def laid_out(tracer: Record, node: str, traced: Traced, sample: Sample) -> str:
    """Id of a node whose value lies in memory as the running module's does, if that counts."""
    if not tracer.literal:
        return node
    shape = (BATCH, *tracer.shapes[node])
    wanted = _batch_first(traced.tensor, sample)
    if wanted.shape != shape or _alike(shape, wanted.stride(), _layout(tracer, node)):
        return node
    order = sorted(range(len(shape)), key=lambda axis: -wanted.stride()[axis])
    if not wanted.permute(order).is_contiguous():
        return node
    merged = sample.merged if not sample.batch and sample.outer == 1 and order == sorted(order) else 1
    key = (node, b"layout", (*order, merged))
    if key not in tracer.views:
        tracer.views[key] = tracer.add("layout", (node,), dims=tuple(order), groups=merged)
    return tracer.views[key]


def _layout(tracer: Record, node: str) -> tuple[int, ...]:
    """Strides of a batch of a node's values."""
    if node not in tracer.layouts:
        shape = (BATCH, *tracer.shapes[node])
        found = next(n for n in reversed(tracer.nodes) if n.id == node)
        made = torch.empty(shape, device="meta")
        call = OPS[found.op].call
        if call is not None and found.inputs and found.op not in ("opaque", "attention", "sdpa", "matmul"):
            whole = not OPS[found.op].broadcasts
            read = {f"x{k}": _as_laid_out(tracer, i, whole=whole) for k, i in enumerate(found.inputs)}
            made = eval(call(found, tuple(read)), {"torch": torch, "F": torch.nn.functional, **read})
        tracer.layouts[node] = made.stride()
    return tracer.layouts[node]


def _as_laid_out(tracer: Record, node: str, *, whole: bool) -> Tensor:
    shape = tracer.shapes[node]
    if node in tracer.tensors:  # a parameter has no batch
        made = torch.empty(shape, device="meta", dtype=tracer.tensors[node].dtype)
        return made.expand(BATCH, *shape) if whole else made
    return torch.empty_strided((BATCH, *shape), _layout(tracer, node), device="meta")


def _batch_first(tensor: Tensor, sample: Sample) -> Tensor:
    """A tensor of the running module with the batch in front."""
    if sample.merged > 1:
        at, shape = sample.batch, tensor.shape
        if sample.outer not in (1, sample.merged):
            return tensor  # no view shows it
        parts = (BATCH, sample.merged) if sample.outer == 1 else (sample.merged, BATCH)
        tensor = tensor.view(*shape[:at], *parts, *shape[at + 1 :])
    return tensor.movedim(sample.batch + (sample.outer > 1), 0)


def _alike(shape: tuple[int, ...], a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return all(x == y or size == 1 for size, x, y in zip(shape, a, b, strict=True))
