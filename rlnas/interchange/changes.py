"""Work in place: values that are written into tensors, and what becomes of other views of these."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rlnas.errors import GraphError
from rlnas.interchange.values import Traced, Unknown

if TYPE_CHECKING:
    from rlnas.interchange.trace import Tracer


def change(tracer: Tracer, func: Any, name: str, args: Any, kwargs: dict[str, Any]) -> Any:
    """A value is written into a tensor, or a constant is changed by one."""
    target = args[0]
    if target.dtype != torch.bool and target.is_leaf and tracer.constants.is_parameter(target):
        raise GraphError("it writes into a parameter while it runs")
    held, old = target.untyped_storage(), tracer.book.get(id(target))
    if old is None and held.data_ptr() not in tracer.written:
        whole = torch.empty(0, dtype=target.dtype).set_(held.clone())
        tracer.written[held.data_ptr()] = target, whole
    values = target.detach().clone() if old is None else None
    out = func(*args, **kwargs)
    if name == "setitem":
        tracer.handlers[name](tracer, name, (target, old if values is None else values, *args[1:]), kwargs, target)
    else:
        tracer.write_down(func, name, (values, *args[1:]), kwargs, out)
    forget_aliases(tracer, target, old)
    return out


def forget_aliases(tracer: Tracer, changed: Tensor, before: Traced | Unknown | None) -> None:
    """Views of a tensor that was written into are no longer what they were."""
    for other in tracer.storages.get(changed.untyped_storage().data_ptr(), []):
        known = tracer.book.get(other)
        if known is None or other == id(changed) or known.tensor is changed or isinstance(known, Unknown):
            continue
        if not (isinstance(before, Traced) and _apart(known, before)):
            tracer.book[other] = Unknown("a tensor that was changed through another view", known.tensor, known)


def before(tracer: Tracer, target: Tensor, part: Tensor) -> Traced | Tensor | None:
    """What a tensor was before a view of it was changed in place; None if that is not what happened."""
    held = target.untyped_storage().data_ptr()
    if part.untyped_storage().data_ptr() != held:
        return None
    known = tracer.book.get(id(target))
    if isinstance(known, Unknown):
        return known.before
    if known is None and held in tracer.written:
        whole = tracer.written[held][1]
        return whole.as_strided(target.size(), target.stride(), target.storage_offset())
    return None


def _apart(known: Traced, other: Traced) -> bool:
    """True for two views of one value that show none of its entries both."""
    if known.node != other.node or known.positions is None or other.positions is None:
        return False
    return not bool(torch.isin(known.positions, other.positions).any())
