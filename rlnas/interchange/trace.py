"""Run a module once and write down what it computes.

The module runs on a batch of two samples while every call of a PyTorch function passes through a `Tracer`. Shapes are
known then, so code that depends on them is resolved by running it, and what is computed from parameters and constants
alone is a constant. A traced tensor is a value of the graph being made, or a view of one, as `rlnas.interchange.views`
explains; the batch may stand at any of its axes, but in the graph it is always in front.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from rlnas.errors import GraphError
from rlnas.interchange.alone import is_alone, repeats, spread, write_alone
from rlnas.interchange.boxes import write_box
from rlnas.interchange.cells import CELLS
from rlnas.interchange.changes import change, forget_aliases
from rlnas.interchange.parameters import parameter
from rlnas.interchange.record import Record
from rlnas.interchange.spelling import (
    COMPARISONS,
    DECISIONS,
    KNOWN,
    LIKE,
    NUMBERS,
    RANDOM,
    REFUSED,
    SHAPED,
    SPREADS,
    VIEWS,
    plain_name,
)
from rlnas.interchange.values import BATCH, Traced, Unknown
from rlnas.interchange.views import base_positions

Handler = Callable[["Tracer", str, Sequence[Any], dict[str, Any], Any], Any]
"""Writes down one call: (tracer, name, positional arguments, keyword arguments, result) to None."""


class Tracer(Record, TorchFunctionMode):
    """Writes down the calls of PyTorch functions.

    Args:
        module: The module that runs; its tensors' names become those of nodes.
        handlers: What writes down each function, by its plain name.
        opaque: True if functions that are not known become black boxes.
        literal: True if every step is written down as it is, memory layouts included, where a shorter form with the
            same values would round differently.
        eager: True if a parameter that is repeated for each sample is a value of the graph from then on, so that what
            is computed from it is not worked out beforehand.
        plain: Addresses of parameters that layers and other things read: they become values of the graph, and layers
            that use them black boxes.
    """

    def __init__(
        self,
        module: nn.Module,
        handlers: dict[str, Handler],
        *,
        opaque: bool,
        literal: bool = False,
        eager: bool = False,
        plain: frozenset[int] = frozenset(),
    ) -> None:
        TorchFunctionMode.__init__(self)
        Record.__init__(self, module, literal=literal)
        self.eager, self.handlers, self.opaque, self.plain = eager, handlers, opaque, plain

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        traced = self.is_traced(args) or (bool(kwargs) and self.is_traced(kwargs))
        if not traced:
            name = plain_name(func)
            if self.eager and repeats(self, name, args):
                return self.__torch_function__(func, types, args, kwargs)
            out = func(*args, **kwargs)
            if name in RANDOM and isinstance(out, Tensor):
                self._draw(func, out)
                return out
            self.constants.derive(func, args, kwargs, out)
            if self.eager and isinstance(out, Tensor) and out.is_floating_point():
                if name in SPREADS and self.is_trained(args[0]):
                    spread(self, func, args, kwargs, out)
                elif is_alone(self, name, args):
                    write_alone(self, func, name, args, kwargs, out)
            return out
        name = plain_name(func)
        if name in REFUSED or getattr(func, "__name__", "") in NUMBERS:
            raise self.refusal(
                f"the flow of control, or a number, depends on the input ({name}), so that there is no one graph; use "
                "torch.where, or take in the part without it"
            )
        if self._is_composite(func, name):
            return self._inside(func, args, kwargs)
        try:
            return self._called(func, name, args, kwargs)
        except GraphError as error:
            raise error if error.args[0].startswith("cannot take in") else self.refusal(f"{name}: {error}") from None

    def _called(self, func: Any, name: str, args: Any, kwargs: dict[str, Any]) -> Any:
        first = args[0] if args and isinstance(args[0], Tensor) else None
        raw = getattr(func, "__name__", "")
        inplace = raw in IN_PLACE or (raw.endswith("_") and not raw.endswith("__"))
        if name == "setitem" or (inplace and first is not None and not self.is_traced(first)):
            return change(self, func, name, args, kwargs)
        out = func(*args, **kwargs)
        if name in SHAPED or (name in LIKE and first is not None and not self.is_traced(first)):
            self.constants.derive(func, args, kwargs, out)
            return out
        if "dropout" in name and out is first and first is not None and not kwargs.get("inplace"):
            out = first.clone()  # in eval mode it hands on its input, which may be read beside it
        results = out if isinstance(out, list | tuple) else (out,)
        if not any([isinstance(t, Tensor) for t in results]):
            return out
        before = self.book.get(id(first)) if out is first and first is not None else None
        try:
            self.write_down(func, name, args, kwargs, out)
        except (IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise GraphError(f"called in a way that is not understood ({type(error).__name__}: {error})") from error
        for tensor in results:
            if isinstance(tensor, Tensor) and id(tensor) not in self.book:
                why = "mixes samples"
                if name in DECISIONS:
                    why = "is of no kind that rlnas knows; opaque=True keeps it as a black box"
                self.know(tensor, Unknown(f"a result of {name}, which {why}", tensor))
        if before is not None and name not in VIEWS:
            forget_aliases(self, out, before)
        return out

    def write_down(self, func: Any, name: str, args: Any, kwargs: dict[str, Any], out: Any) -> None:
        """Add nodes for a call that was made."""
        complex_ = any([isinstance(t, Tensor) and t.is_complex() for t in (*args, out)])
        if name in COMPARISONS and any([isinstance(self.book.get(id(a)), Unknown) for a in args]):
            return
        for value in args:
            self.find(value)
        view = name in VIEWS and not (name == "unfold" and func is not Tensor.unfold)
        if self.plain and not self.plain.isdisjoint([id(self.constants.root(t)[0]) for t in self._weights(args)]):
            self.black_box(func, args, kwargs, out)
        elif (view or func is Tensor.unfold) and not complex_ and isinstance(self.book.get(id(args[0])), Traced):
            self._view(func, args, kwargs, out)
        elif name in DECISIONS and not self.opaque:
            pass  # refused as soon as something is made of it
        elif name in self.handlers and not complex_:
            self.handlers[name](self, name, args, kwargs, out)
        elif name in EXACT or name in CELLS or self.opaque:
            self.black_box(func, args, kwargs, out)
        elif complex_:
            raise GraphError("complex numbers are not known; opaque=True keeps what reads them as a black box")
        elif name in RANDOM:
            raise GraphError("it draws random numbers, so that no two runs give the same; leave that to training")
        else:
            near = difflib.get_close_matches(name, self.handlers, 3)
            raise GraphError(
                "not one of the operations that rlnas knows"
                + (f" (near it: {', '.join(near)})" if near else "")
                + f"; opaque=True keeps it as a black box that operators leave alone. Known are {KNOWN}"
            )

    @staticmethod
    def _weights(args: Any) -> list[Tensor]:
        return [a for a in args[1:] if isinstance(a, Tensor)]

    def _is_composite(self, func: Any, name: str) -> bool:
        """True for a function of torch.nn.functional that is written in Python, and that has no handler."""
        if name in CELLS:
            return not self.literal
        if name in self.handlers or name in EXACT or name in RANDOM or not isinstance(func, FunctionType):
            return False
        return func.__module__ in ("torch.nn.functional", "torch.functional")

    def _inside(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Run the body of a function, so that what it calls is written down in its place."""
        if plain_name(func) in CELLS:
            with self:
                return CELLS[plain_name(func)](*args, **kwargs)
        never = dict.fromkeys(CHECKS, lambda *_: False)
        body = FunctionType(
            func.__code__, {**func.__globals__, **never}, func.__name__, func.__defaults__, func.__closure__
        )
        body.__kwdefaults__ = func.__kwdefaults__
        with self:
            return body(*args, **kwargs)

    # -------------------------------------------------------------------------------------------- random numbers

    def _draw(self, func: Any, out: Tensor) -> None:
        """Random numbers do not depend on the input, but are no constant either."""
        size = ", ".join(map(str, out.shape[1:]))
        if self.opaque and func in (torch.randn, torch.rand) and out.dim() and out.shape[0] == BATCH:
            text = f"torch.{func.__name__}({{0}}.shape[0], {size})"
            made = self.add("opaque", (self.nodes[0].id,), text=text, shape=tuple(out.shape[1:]))
            self.know(out, Traced(made, None, out))
        else:
            why = "random numbers; leave those to training, or keep them as a black box with opaque=True"
            self.know(out, Unknown(why, out))

    def show(self, func: Any, source: Tensor, sizes: tuple[int, ...], out: Tensor) -> None:
        """Say that a tensor is a view of another, made by a function of sizes."""
        self._view(func, (source, *sizes), {}, out)

    def _view(self, func: Any, args: Any, kwargs: dict[str, Any], out: Any) -> None:
        traced = self.find(args[0])
        assert traced is not None
        positions = traced.positions
        if positions is None:
            positions = base_positions(BATCH, self.shapes[traced.node])
        rest = args[1:]
        if plain_name(func).endswith("_as"):  # only the shape of the other one counts
            rest = (torch.empty(rest[0].shape, dtype=torch.int64), *rest[1:])
        if self.is_traced(rest):
            raise GraphError("places to look up depend on the input")
        shown = func(_copy(positions), *rest, **kwargs)
        if isinstance(out, Tensor):
            out, shown = (out,), (shown,)
        for k, (tensor, where) in enumerate(zip(out, shown, strict=True)):
            same = traced.positions is None and where.shape == positions.shape and bool((where == positions).all())

            def again(places: Tensor, k: int = k) -> Tensor:
                found = func(_copy(places), *rest, **kwargs)
                return found if isinstance(found, Tensor) else found[k]

            self.know(tensor, Traced(traced.node, None if same else where, tensor, (traced, again)))

    # ------------------------------------------------------------------------------------------------ black boxes

    def black_box(self, func: Any, args: Any, kwargs: dict[str, Any], out: Any) -> None:
        """Write a call down as its own text."""
        write_box(self, func, args, kwargs, out)

    def raw(self, tensor: Tensor) -> str:
        """Id of a `parameter` for a tensor as it is."""
        return parameter(self, tensor, tensor.detach(), lambda values: values)


def _copy(positions: Tensor) -> Tensor:
    """Positions that any view can be made of, and that work in place does not change."""
    return positions.view_as(positions) if positions.is_contiguous() else positions.contiguous()


EXACT = frozenset(
    {"cosine_similarity", "pairwise_distance", "cdist", "bilinear", "embedding_bag", "lerp", "addcdiv"}
) | {"gru_cell"}
"""Functions without a node of their own that keep samples apart; they are written down as black boxes."""

IN_PLACE = frozenset(
    {f"__i{name}__" for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "matmul")}
)
CHECKS = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")
