"""Run a module once and write down what it computes.

The module runs on a batch of two samples while every call of a PyTorch function passes through a `Tracer`. Shapes are
known then, so code that depends on them is resolved by running it, and what is computed from parameters and constants
alone is a constant. A traced tensor is a value of the graph being made, or a view of one, as `rlnas.interchange.views`
explains; the batch may stand at any of its axes, but in the graph it is always in front.
"""

from __future__ import annotations

import difflib
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType, FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from rlnas.errors import GraphError
from rlnas.graph import OPS, Node
from rlnas.graph.facts import complete, facts_of
from rlnas.interchange.boxes import write_box
from rlnas.interchange.cells import CELLS
from rlnas.interchange.constants import Constants
from rlnas.interchange.layouts import laid_out
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
    identifier,
    plain_name,
)
from rlnas.interchange.values import BATCH, Tied, Traced, Unknown, Value
from rlnas.interchange.views import Sample, base_positions, find_sample, placed, steps_to
from rlnas.network import TAKEN

OURS = str(Path(__file__).parent)
THEIRS = str(Path(torch.__file__).parent)
MOST_NODES = 20_000
"""More operations than this are a loop over time that was unrolled; nothing could be done with such a graph."""


Handler = Callable[["Tracer", str, Sequence[Any], dict[str, Any], Any], Any]
"""Writes down one call: (tracer, name, positional arguments, keyword arguments, result) to None."""


class Tracer(TorchFunctionMode):
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

    Attributes:
        nodes: The nodes so far.
        shapes: Shape of one sample of each.
        tensors: Tensors of the network to be.
        layers: For each layer with tensors of its own, what they are.
        uses: For each `parameter` made of a trained tensor, that tensor and how a sample is taken from it.
        reads: What nodes read that attention may be made of.
        n_lost: Parameters that went into constants, so that they are no parameters any more.
        risky: True if something is written in another way than the module computes it.
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
        super().__init__()
        self.literal, self.eager, self.constants = literal, eager, Constants(module)
        self.nodes: list[Node] = []
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.tensors: dict[str, Tensor] = {}
        self.layers: dict[str, tuple[Tensor, ...]] = {}
        self.uses: dict[str, tuple[Tensor, Callable[[Tensor], Tensor]]] = {}
        self.reads: dict[str, list[Traced]] = {}
        self.n_lost, self.risky = 0, False
        self.views: dict[tuple[str, bytes, tuple[int, ...]], str] = {}
        self._handlers, self._opaque, self.plain, self._module = handlers, opaque, plain, module
        self._reserved = {identifier(path) for path, _ in module.named_modules()}
        self._known: dict[int, Traced | Unknown] = {}
        self.layouts: dict[str, tuple[int, ...]] = {}
        self._owners: dict[tuple[Any, ...], str] = {}
        self._tables: dict[int, str] = {}
        self._parameters: dict[tuple[int, tuple[int, ...]], tuple[str, Tensor]] = {}
        self._by_themselves: dict[int, tuple[str, Tensor]] = {}
        self._storages: dict[int, list[int]] = {}
        self._written: dict[int, tuple[Tensor, Tensor]] = {}

    # ------------------------------------------------------------------------------------------------ what is known

    def start(self, tensor: Tensor, *, dtype: str) -> None:
        """Make a tensor the network's input."""
        id = self.unused("input")
        self.nodes.append(Node.make(id, "input", shape=tuple(tensor.shape[1:]), dtype=dtype))
        self.shapes[id] = tuple(tensor.shape[1:])
        self.know(tensor, Traced(id, None, tensor))

    def know(self, tensor: Tensor, what: Traced | Unknown) -> None:
        """Remember what a tensor is."""
        self._known[id(tensor)] = what
        self._storages.setdefault(tensor.untyped_storage().data_ptr(), []).append(id(tensor))

    def known(self, tensor: Tensor) -> Traced:
        """What a tensor that depends on the input is."""
        found = self.find(tensor)
        assert found is not None
        return found

    def alias(self, tensor: Tensor, of: Tensor) -> None:
        """Say that a tensor has the values of another."""
        known = self.known(of)
        self.know(tensor, Traced(known.node, known.positions, tensor, known.origin))

    def is_trained(self, tensor: Tensor | None) -> bool:
        """True for a parameter, and what was computed from one."""
        return self.constants.is_trained(tensor)

    def find(self, value: Any) -> Traced | None:
        """What is known of an argument; None if it does not depend on the input."""
        found = self._known.get(id(value)) if isinstance(value, Tensor) else None
        if isinstance(found, Unknown):
            raise GraphError(f"it reads {found.why}")
        return found

    def before(self, target: Tensor, part: Tensor) -> Traced | Tensor | None:
        """What a tensor was before a view of it was changed in place; None if that is not what happened."""
        held = target.untyped_storage().data_ptr()
        if part.untyped_storage().data_ptr() != held:
            return None
        known = self._known.get(id(target))
        if isinstance(known, Unknown):
            return known.before
        if known is None and held in self._written:
            whole = self._written[held][1]
            return whole.as_strided(target.size(), target.stride(), target.storage_offset())
        return None

    def is_traced(self, value: Any) -> bool:
        """True if an argument depends on the input, or holds something that does."""
        if isinstance(value, Tensor):
            return id(value) in self._known
        if isinstance(value, list | tuple):
            return any([self.is_traced(v) for v in value])
        return isinstance(value, dict) and any([self.is_traced(v) for v in value.values()])

    # ------------------------------------------------------------------------------------------------- the mode

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        traced = self.is_traced(args) or (bool(kwargs) and self.is_traced(kwargs))
        if not traced:
            name = plain_name(func)
            if self.eager and self._repeats(name, args):
                return self.__torch_function__(func, types, args, kwargs)
            out = func(*args, **kwargs)
            if name in RANDOM and isinstance(out, Tensor):
                self._draw(func, out)
                return out
            self.constants.derive(func, args, kwargs, out)
            if self.eager and isinstance(out, Tensor) and out.is_floating_point():
                if name in SPREADS and self.is_trained(args[0]):
                    self._spread(func, args, kwargs, out)
                elif self._is_alone(name, args):
                    self._alone(func, name, args, kwargs, out)
            return out
        name = plain_name(func)
        if name in REFUSED or getattr(func, "__name__", "") in NUMBERS:
            raise self.error(
                f"the flow of control, or a number, depends on the input ({name}), so that there is no one graph; use "
                "torch.where, or take in the part without it"
            )
        if self._is_composite(func, name):
            return self._inside(func, args, kwargs)
        try:
            return self._called(func, name, args, kwargs)
        except GraphError as error:
            raise error if error.args[0].startswith("cannot take in") else self.error(f"{name}: {error}") from None

    def _called(self, func: Any, name: str, args: Any, kwargs: dict[str, Any]) -> Any:
        first = args[0] if args and isinstance(args[0], Tensor) else None
        raw = getattr(func, "__name__", "")
        inplace = raw in IN_PLACE or (raw.endswith("_") and not raw.endswith("__"))
        if name == "setitem" or (inplace and first is not None and not self.is_traced(first)):
            return self._change(func, name, args, kwargs)
        out = func(*args, **kwargs)
        if name in SHAPED or (name in LIKE and first is not None and not self.is_traced(first)):
            self.constants.derive(func, args, kwargs, out)
            return out
        if "dropout" in name and out is first and first is not None and not kwargs.get("inplace"):
            out = first.clone()  # in eval mode it hands on its input, which may be read beside it
        results = out if isinstance(out, list | tuple) else (out,)
        if not any([isinstance(t, Tensor) for t in results]):
            return out
        before = self._known.get(id(first)) if out is first and first is not None else None
        try:
            self._write_down(func, name, args, kwargs, out)
        except (IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise GraphError(f"called in a way that is not understood ({type(error).__name__}: {error})") from error
        for tensor in results:
            if isinstance(tensor, Tensor) and id(tensor) not in self._known:
                why = "mixes samples"
                if name in DECISIONS:
                    why = "is of no kind that rlnas knows; opaque=True keeps it as a black box"
                self.know(tensor, Unknown(f"a result of {name}, which {why}", tensor))
        if before is not None and name not in VIEWS:
            self._forget_aliases(out, before)
        return out

    def _write_down(self, func: Any, name: str, args: Any, kwargs: dict[str, Any], out: Any) -> None:
        complex_ = any([isinstance(t, Tensor) and t.is_complex() for t in (*args, out)])
        if name in COMPARISONS and any([isinstance(self._known.get(id(a)), Unknown) for a in args]):
            return
        for value in args:
            self.find(value)
        view = name in VIEWS and not (name == "unfold" and func is not Tensor.unfold)
        if self.plain and not self.plain.isdisjoint([id(self.constants.root(t)[0]) for t in self._weights(args)]):
            self.black_box(func, args, kwargs, out)
        elif (view or func is Tensor.unfold) and not complex_ and isinstance(self._known.get(id(args[0])), Traced):
            self._view(func, args, kwargs, out)
        elif name in DECISIONS and not self._opaque:
            pass  # refused as soon as something is made of it
        elif name in self._handlers and not complex_:
            self._handlers[name](self, name, args, kwargs, out)
        elif name in EXACT or name in CELLS or self._opaque:
            self.black_box(func, args, kwargs, out)
        elif complex_:
            raise GraphError("complex numbers are not known; opaque=True keeps what reads them as a black box")
        elif name in RANDOM:
            raise GraphError("it draws random numbers, so that no two runs give the same; leave that to training")
        else:
            near = difflib.get_close_matches(name, self._handlers, 3)
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
        if name in self._handlers or name in EXACT or name in RANDOM or not isinstance(func, FunctionType):
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

    # ------------------------------------------------------------------------- what is computed from parameters only

    def _spread(self, func: Any, args: Any, kwargs: dict[str, Any], out: Tensor) -> None:
        """A parameter that is repeated for each sample is a value from then on."""
        places = torch.arange(args[0].numel()).view(args[0].shape)
        shown = func(places, *args[1:], **kwargs)
        added = out.dim() - args[0].dim()
        for at in range(out.dim()):
            alike = out.shape[at] == BATCH and (at < added or args[0].shape[at - added] == 1)
            if alike and bool((shown == shown.narrow(at, 0, 1)).all()):
                id = self._each(
                    self._parameter(out, out.detach().select(at, 0), partial(torch.select, dim=at, index=0))
                )
                self.know(out, Traced(id, placed(BATCH, self.shapes[id], at, 1) if at else None, out))
                return

    def _repeats(self, name: str, args: Any) -> bool:
        """True if a constant that holds the same for each sample meets a parameter; it is a value from now on."""
        x = args[0] if args else None
        if not isinstance(x, Tensor) or x.dim() < 2 or x.shape[0] != BATCH or not x.is_floating_point():
            return False
        if name not in LAYERS | BY_PLACE or not any([self.is_trained(a) for a in args[1:] if isinstance(a, Tensor)]):
            return False
        if id(x) in self.constants.names or not bool((x[0] == x[1]).all()):
            return False
        node = self._each(self._parameter(x, x.detach()[0], partial(torch.select, dim=0, index=0)))
        self.know(x, Traced(node, None, x))
        return True

    def _each(self, node: str) -> str:
        """Id of a node for a value that does not depend on the samples, and is there once for each if that counts."""
        if not self.literal:
            return node
        return self.add("each", (node, self.nodes[0].id), shape=self.shapes[node])

    def _is_alone(self, name: str, args: Any) -> bool:
        """True for what is computed from parameters only, and may be by nodes."""
        held = [t for a in args for t in (a if isinstance(a, list | tuple) else (a,)) if isinstance(t, Tensor)]
        if name in LAYERS or name in JOINS:
            return any([self.is_trained(t) for t in (held[1:] if name in LAYERS else held)])
        return name in BY_PLACE and any([id(self.constants.root(t)[0]) in self._by_themselves for t in held])

    def _seen(self, node: str, views: list[Callable[[Tensor], Tensor]]) -> str:
        """Id of a node that shows the value of another, which depends on no sample, through views."""
        for view in views:
            shape = self.shapes[node]
            shown = self._shown(node, view(torch.arange(math.prod(shape)).view(shape)), whole=True)
            if shown is None:
                raise GraphError("it reads a rearrangement of what was computed from parameters")
            node = shown
        return node

    def _alone(self, func: Any, name: str, args: Any, kwargs: dict[str, Any], out: Tensor) -> None:
        """Write down a call that reads no samples, as if each sample brought along what it reads."""

        def repeated(tensor: Tensor) -> Tensor:
            made = tensor.expand(BATCH, *tensor.shape).clone()
            self.know(made, Traced(self._parameter(tensor, tensor.detach(), lambda values: values), None, made))
            return made

        rest = list(args[1:])
        if name in JOINS:
            at = kwargs.get("dim", rest[0] if rest else 0)
            given: list[Any] = [[repeated(t) for t in args[0]], at + 1 if at >= 0 else at]
            kwargs = {}
        elif name in LAYERS:
            given = [repeated(args[0]), *rest]
        else:
            given = [repeated(a) if isinstance(a, Tensor) and self.is_trained(a) else a for a in args]
        with suppress(GraphError, RuntimeError):
            shown = func(*given, **kwargs)
            self._write_down(func, name, given, kwargs, shown)
            known = self.known(shown)
            if known.positions is None and self.shapes[known.node] == tuple(out.shape):
                self._by_themselves[id(self.constants.first(out))] = known.node, out

    # ---------------------------------------------------------------------------------------------- work in place

    def _change(self, func: Any, name: str, args: Any, kwargs: dict[str, Any]) -> Any:
        """A value is written into a tensor, or a constant is changed by one."""
        target = args[0]
        if target.dtype != torch.bool and target.is_leaf and self.constants.is_parameter(target):
            raise GraphError("it writes into a parameter while it runs")
        held, old = target.untyped_storage(), self._known.get(id(target))
        if old is None and held.data_ptr() not in self._written:
            whole = torch.empty(0, dtype=target.dtype).set_(held.clone())
            self._written[held.data_ptr()] = target, whole
        values = target.detach().clone() if old is None else None
        out = func(*args, **kwargs)
        if name == "setitem":
            self._handlers[name](self, name, (target, old if values is None else values, *args[1:]), kwargs, target)
        else:
            self._write_down(func, name, (values, *args[1:]), kwargs, out)
        self._forget_aliases(target, old)
        return out

    def _forget_aliases(self, changed: Tensor, before: Traced | Unknown | None) -> None:
        """Views of a tensor that was written into are no longer what they were."""
        for other in self._storages.get(changed.untyped_storage().data_ptr(), []):
            known = self._known.get(other)
            if known is None or other == id(changed) or known.tensor is changed or isinstance(known, Unknown):
                continue
            if not (isinstance(before, Traced) and _apart(known, before)):
                self._known[other] = Unknown("a tensor that was changed through another view", known.tensor, known)

    # -------------------------------------------------------------------------------------------- random numbers

    def _draw(self, func: Any, out: Tensor) -> None:
        """Random numbers do not depend on the input, but are no constant either."""
        size = ", ".join(map(str, out.shape[1:]))
        if self._opaque and func in (torch.randn, torch.rand) and out.dim() and out.shape[0] == BATCH:
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
        return self._parameter(tensor, tensor.detach(), lambda values: values)

    # --------------------------------------------------------------------------------------------------- operands

    def value(self, tensor: Tensor, *, broadcast: bool = False) -> Value:
        """A traced tensor as an operand; nodes are added if it is a view.

        Args:
            broadcast: True if axes along which nothing changes may be left at size 1.

        Raises:
            GraphError: If no nodes make that view, or samples are mixed.
        """
        traced = self.find(tensor)
        if traced is None:
            raise GraphError("one of its inputs should depend on the network's input")
        return self._operand(traced, broadcast=broadcast)

    def _operand(self, traced: Traced, *, broadcast: bool = False) -> Value:
        shape, rank = self.shapes[traced.node], traced.tensor.dim()
        if traced.positions is None:
            return Value(laid_out(self, traced.node, traced, Sample(None, shape)), shape, Sample(None, shape), rank)
        positions = traced.positions
        if self.literal and traced.origin is not None and not broadcast:
            with suppress(GraphError):
                return self._operand(self._last_step(traced))
        if broadcast:
            for axis in range(positions.dim()):
                if positions.shape[axis] > 1 and bool((positions == positions.narrow(axis, 0, 1)).all()):
                    positions = positions.narrow(axis, 0, 1)
        sample = find_sample(positions, BATCH, math.prod(shape))
        if sample is None or sample.positions is None:
            raise GraphError("its input mixes the samples of a batch")
        node = self._shown(traced.node, sample.positions, whole=traced.origin is None)
        if node is None and traced.origin is not None:  # step by step, then
            return self._operand(self._last_step(traced), broadcast=broadcast)
        if node is None:
            raise GraphError(f"its input is a rearrangement of {traced.node} that is not understood")
        return Value(laid_out(self, node, traced, sample), sample.shape, sample, rank)

    def _last_step(self, traced: Traced) -> Traced:
        """A view as a view of what it was made from, for which there is a node then."""
        assert traced.origin is not None
        before, again = traced.origin
        value = self._operand(before)
        held = value.sample
        places = placed(BATCH, value.shape, held.batch, held.merged, held.outer)
        return Traced(value.node, again(places), traced.tensor)

    def _shown(self, node: str, positions: Tensor, *, whole: bool) -> str | None:
        """Id of a node that makes a view; None if no way is known, nor one without lists of places unless it is whole.

        Args:
            whole: True for a view that is not made from others.
        """
        key = (node, positions.numpy().tobytes(), tuple(positions.shape))
        if key not in self.views:
            steps = steps_to(positions, self.shapes[node])
            if steps is None or (not whole and any([op == "index_select" for op, _ in steps])):
                return None
            current = node
            for op, attrs in steps:
                current = self.add(op, (current,), **attrs)
            self.views[key] = current
        return self.views[key]

    def constant(self, tensor: Tensor, like: Value | None = None, *, rank: int | None = None) -> str:
        """Id of a `parameter` for a tensor that does not depend on the input.

        Args:
            like: An operand with which it broadcasts; tells which axis is the batch's.
            rank: Axes of the result that both broadcast to.
        """
        if tensor.untyped_storage().data_ptr() in self._written:
            raise GraphError("it reads a tensor that was changed through another view")

        def sample(values: Tensor) -> Tensor:
            if like is not None:
                values = self._sample_of(values, like, rank or like.rank)
            while values.dim() > 1 and values.shape[0] == 1 and (like is None or values.dim() > len(like.shape)):
                values = values[0]
            scalar = like is not None and not like.shape and (rank or like.rank) == 1
            return values if values.dim() or scalar else values.reshape(1)

        values = sample(tensor.detach())
        order = sorted(range(values.dim()), key=lambda axis: -values.stride()[axis])
        if not self.literal or values.is_contiguous() or not values.permute(order).is_contiguous():
            return self._parameter(tensor, values, sample)
        stored = self._parameter(tensor, values.permute(order), lambda values: sample(values).permute(order))
        return self.add("permute", (stored,), dims=tuple([order.index(axis) for axis in range(len(order))]))

    def _parameter(self, tensor: Tensor, values: Tensor, sample: Callable[[Tensor], Tensor]) -> str:
        tensor = self.constants.first(tensor)
        if self._by_themselves:
            root, chain = self.constants.chain(tensor)
            if id(root) in self._by_themselves:
                return self._seen(self._by_themselves[id(root)][0], [*[r.again for r in chain], sample])
        key = (id(tensor), tuple(values.shape))
        if key not in self._parameters:
            dtype = {torch.bool: "bool", torch.int64: "int64"}.get(values.dtype, "float32")
            if values.dtype in (torch.int32, torch.int16, torch.uint8):
                values, dtype = values.long(), "int64"
            if dtype == "float32" and not values.is_floating_point():
                raise GraphError(f"constants of type {values.dtype} are not known")
            trained = self.is_trained(tensor) and dtype == "float32"
            name = self.constants.names.get(id(tensor))
            made = self.unused(identifier(name), own=True) if name else self.unused("constant")
            node = complete(Node.make(made, "parameter", shape=tuple(values.shape), trained=trained, dtype=dtype))
            self.nodes.append(node)
            self.shapes[made] = tuple(values.shape)
            self.tensors[made] = values.clone()
            self._parameters[key] = (made, tensor)
            if trained:
                self.uses[made] = tensor, sample
        return self._parameters[key][0]

    def _sample_of(self, values: Tensor, like: Value, rank: int) -> Tensor:
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

    # ------------------------------------------------------------------------------------------------------ nodes

    def emit(
        self, op: str, operands: Sequence[Value | str], out: Tensor, *, like: Value, name: str = "", **attrs: Any
    ) -> str:
        """Add a node whose value is a tensor of the running module.

        Args:
            operands: What it reads; strings are ids of constants.
            like: The operand that says where the batch stands in the result.
            name: Proposed id.
        """
        made = self.add(op, [v if isinstance(v, str) else v.node for v in operands], name=name, **attrs)
        self.result(made, out, like)
        return made

    def result(self, node: str, out: Tensor, like: Value, *, batch: int | None = None) -> None:
        """Say that a tensor of the running module is the value of a node."""
        at = like.sample.batch + out.dim() - like.rank if batch is None else batch
        merged, shape = like.sample.merged, self.shapes[node]
        expected = (*shape[:at], BATCH, *shape[at:]) if merged == 1 else (*shape[:at], BATCH * merged, *shape[at + 1 :])
        if tuple(out.shape) != expected:
            raise GraphError(f"its result has the shape {tuple(out.shape)}, not {expected} as expected")
        plain = at == 0 and merged == 1
        self.know(out, Traced(node, None if plain else placed(BATCH, shape, at, merged, like.sample.outer), out))

    def standing(self, node: str) -> Value:
        """A node's value with its batch in front, as an operand."""
        shape = self.shapes[node]
        return Value(node, shape, Sample(None, shape), len(shape) + 1)

    def layer(
        self,
        op: str,
        x: Value,
        out: Tensor | None,
        tensors: dict[str, Tensor | None],
        *,
        batch: int | None = None,
        **attrs: Any,
    ) -> str:
        """Add a node with tensors of its own; one that was met before is shared."""
        given = {name: tensor for name, tensor in tensors.items() if tensor is not None}
        if self.is_traced(list(given.values())):
            raise GraphError("its weights depend on the input")
        main = next(iter(given.values()), None)
        key = (op, *attrs.items(), *[(n, id(self.constants.first(t))) for n, t in given.items() if n != COUNT])
        owner = self._owners.get(key) if main is not None else None
        if main is not None and owner is None and op == "linear":  # the table of an embedding, used once more
            owner = self._tables.get(id(self.constants.first(main)))
            if owner is not None and "bias" in given:
                self._with_its_bias(x, out, main, given["bias"], attrs["out_channels"])
                return ""
        if owner is not None:
            attrs["shares"] = owner
        made = self.add(op, (x.node,), name="" if main is None else self.weight_name(main), **attrs)
        if out is not None:
            self.result(made, out, x, batch=batch)
        if owner is None and main is not None:
            self._owners[key] = made
            if op == "embedding":
                self._tables[id(self.constants.first(main))] = made
            self.layers[made] = tuple([t for n, t in given.items() if n != COUNT])
            self.tensors |= {f"{made}.{name}": tensor for name, tensor in given.items()}
        return made

    def _with_its_bias(self, x: Value, out: Tensor | None, weight: Tensor, bias: Tensor, width: int) -> None:
        """A linear layer with the weight of an embedding and a bias of its own."""
        if self.literal or out is None:
            raise Tied([weight])
        product = torch.empty_like(out)
        node = self.layer("linear", x, product, {"weight": weight}, bias=False, out_channels=width)
        value = self.value(product)
        self.result(self.add("add", (node, self.constant(bias, value))), out, value)

    def add(self, op: str, inputs: Iterable[str], *, name: str = "", **attrs: Any) -> str:
        """Add a node and return its id."""
        if len(self.nodes) >= MOST_NODES:
            raise GraphError(
                f"over {MOST_NODES} operations; a loop over time should be one module, kept as a black box"
            )
        made = self.unused(name, own=True) if name else self.unused(SHORT.get(op, op))
        given = {k: float(v) if k in FLOATS and not isinstance(v, bool) else v for k, v in attrs.items()}
        node = complete(Node.make(made, op, tuple(inputs), **given))
        self.nodes.append(node)
        self.shapes[made] = facts_of(node, tuple([self.shapes[i] for i in node.inputs])).shape
        return made

    def pass_on(self, owner: str, heir: str) -> None:
        """Give a layer's tensors to another one."""
        self.layers[heir] = self.layers.pop(owner)
        for name in [name for name in self.tensors if name.startswith(f"{owner}.")]:
            self.tensors[f"{heir}.{name.removeprefix(f'{owner}.')}"] = self.tensors.pop(name)

    def weight_name(self, weight: Tensor) -> str:
        """Name of the module that a weight belongs to, as an id."""
        name = self.constants.names.get(id(weight), "")
        return identifier(name.rpartition(".")[0]) if name else ""

    def unused(self, wanted: str, *, own: bool = False) -> str:
        """An id that no node has: the one wanted, or that with a number.

        Args:
            own: True for a name that the module gives; others keep clear of those, and of names of ops.
        """
        taken = own or not (wanted in OPS or wanted in SHORT.values() or wanted in self._reserved)
        if taken and wanted not in self.shapes and wanted not in TAKEN:
            return wanted
        n = 1
        while f"{wanted}{n}" in self.shapes or f"{wanted}{n}" in TAKEN or f"{wanted}{n}" in self._reserved:
            n += 1
        return f"{wanted}{n}"

    # ------------------------------------------------------------------------------------------------------ errors

    def error(self, what: str) -> GraphError:
        """An error that says where in the user's code it arose."""
        frame: FrameType | None = sys._getframe(1)
        place, owner = "", ""
        while frame is not None and frame.f_code.co_name != "run_and_write_down":
            file = frame.f_code.co_filename
            if not place and not file.startswith((OURS, THEIRS)) and not file.startswith("<"):
                place = f" ({file}:{frame.f_lineno})"
            held = frame.f_locals.get("self")
            if not owner and isinstance(held, nn.Module):
                owner = next((name for name, m in self._module.named_modules() if m is held), "")
                owner = f" in {owner}" if owner else ""
            frame = frame.f_back
        return GraphError(f"cannot take in {type(self._module).__name__}{owner}{place}: {what}")


def _copy(positions: Tensor) -> Tensor:
    """Positions that any view can be made of, and that work in place does not change."""
    return positions.view_as(positions) if positions.is_contiguous() else positions.contiguous()


def _apart(known: Traced, other: Traced) -> bool:
    """True for two views of one value that show none of its entries both."""
    if known.node != other.node or known.positions is None or other.positions is None:
        return False
    return not bool(torch.isin(known.positions, other.positions).any())


SHORT = {
    "conv1d": "conv",
    "conv2d": "conv",
    "conv3d": "conv",
    "batch_norm1d": "bn",
    "batch_norm2d": "bn",
    "batch_norm3d": "bn",
    "layer_norm": "norm",
    "rms_norm": "norm",
    "group_norm": "norm",
    "max_pool2d": "pool",
    "avg_pool2d": "pool",
    "adaptive_avg_pool2d": "pool",
}
FLOATS = frozenset(
    {"eps", "momentum", "p", "value", "negative_slope", "alpha", "beta", "k", "threshold", "min_val", "max_val"}
    | {"order", "scale", "lambd"}
)
COUNT = "num_batches_tracked"
EXACT = frozenset(
    {"cosine_similarity", "pairwise_distance", "cdist", "bilinear", "embedding_bag", "lerp", "addcdiv"}
) | {"gru_cell"}
"""Functions without a node of their own that keep samples apart; they are written down as black boxes."""

LAYERS = frozenset({"linear", "layer_norm", "rms_norm"})
JOINS = frozenset({"cat", "concat", "stack"})
BY_PLACE = frozenset(
    {"relu", "gelu", "silu", "tanh", "sigmoid", "exp", "normalize", "leaky_relu", "elu", "softplus"}
) | {*("add", "radd", "iadd", "sub", "rsub", "mul", "rmul", "imul", "div", "truediv", "neg", "square", "clamp")}
IN_PLACE = frozenset(
    {f"__i{name}__" for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "matmul")}
)
CHECKS = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")
