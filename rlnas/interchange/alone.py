"""What is computed from parameters only: it depends on no sample, and is written down as if each brought it along."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rlnas.errors import GraphError
from rlnas.interchange.parameters import parameter
from rlnas.interchange.values import BATCH, Traced
from rlnas.interchange.views import placed

if TYPE_CHECKING:
    from rlnas.interchange.trace import Tracer

LAYERS = frozenset({"linear", "layer_norm", "rms_norm"})
JOINS = frozenset({"cat", "concat", "stack"})
BY_PLACE = frozenset(
    {"relu", "gelu", "silu", "tanh", "sigmoid", "exp", "normalize", "leaky_relu", "elu", "softplus"}
) | {*("add", "radd", "iadd", "sub", "rsub", "mul", "rmul", "imul", "div", "truediv", "neg", "square", "clamp")}


def spread(tracer: Tracer, func: Any, args: Any, kwargs: dict[str, Any], out: Tensor) -> None:
    """A parameter that is repeated for each sample is a value from then on."""
    places = torch.arange(args[0].numel()).view(args[0].shape)
    shown = func(places, *args[1:], **kwargs)
    added = out.dim() - args[0].dim()
    for at in range(out.dim()):
        alike = out.shape[at] == BATCH and (at < added or args[0].shape[at - added] == 1)
        if alike and bool((shown == shown.narrow(at, 0, 1)).all()):
            id = _each(
                tracer, parameter(tracer, out, out.detach().select(at, 0), partial(torch.select, dim=at, index=0))
            )
            tracer.know(out, Traced(id, placed(BATCH, tracer.shapes[id], at, 1) if at else None, out))
            return


def repeats(tracer: Tracer, name: str, args: Any) -> bool:
    """True if a constant that holds the same for each sample meets a parameter; it is a value from now on."""
    x = args[0] if args else None
    if not isinstance(x, Tensor) or x.dim() < 2 or x.shape[0] != BATCH or not x.is_floating_point():
        return False
    if name not in LAYERS | BY_PLACE or not any([tracer.is_trained(a) for a in args[1:] if isinstance(a, Tensor)]):
        return False
    if id(x) in tracer.constants.names or not bool((x[0] == x[1]).all()):
        return False
    node = _each(tracer, parameter(tracer, x, x.detach()[0], partial(torch.select, dim=0, index=0)))
    tracer.know(x, Traced(node, None, x))
    return True


def _each(tracer: Tracer, node: str) -> str:
    """Id of a node for a value that does not depend on the samples, and is there once for each if that counts."""
    if not tracer.literal:
        return node
    return tracer.add("each", (node, tracer.nodes[0].id), shape=tracer.shapes[node])


def is_alone(tracer: Tracer, name: str, args: Any) -> bool:
    """True for what is computed from parameters only, and may be by nodes."""
    held = [t for a in args for t in (a if isinstance(a, list | tuple) else (a,)) if isinstance(t, Tensor)]
    if name in LAYERS or name in JOINS:
        return any([tracer.is_trained(t) for t in (held[1:] if name in LAYERS else held)])
    return name in BY_PLACE and any([id(tracer.constants.root(t)[0]) in tracer.alone for t in held])


def write_alone(tracer: Tracer, func: Any, name: str, args: Any, kwargs: dict[str, Any], out: Tensor) -> None:
    """Write down a call that reads no samples, as if each sample brought along what it reads."""

    def repeated(tensor: Tensor) -> Tensor:
        made = tensor.expand(BATCH, *tensor.shape).clone()
        tracer.know(made, Traced(parameter(tracer, tensor, tensor.detach(), lambda values: values), None, made))
        return made

    rest = list(args[1:])
    if name in JOINS:
        at = kwargs.get("dim", rest[0] if rest else 0)
        given: list[Any] = [[repeated(t) for t in args[0]], at + 1 if at >= 0 else at]
        kwargs = {}
    elif name in LAYERS:
        given = [repeated(args[0]), *rest]
    else:
        given = [repeated(a) if isinstance(a, Tensor) and tracer.is_trained(a) else a for a in args]
    with suppress(GraphError, RuntimeError):
        shown = func(*given, **kwargs)
        tracer.write_down(func, name, given, kwargs, shown)
        known = tracer.known(shown)
        if known.positions is None and tracer.shapes[known.node] == tuple(out.shape):
            tracer.alone[id(tracer.constants.first(out))] = known.node, out
