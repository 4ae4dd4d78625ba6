"""Run a module once and write down what it computes.

The module runs on a batch of two samples while every call of a PyTorch function passes through a `Tracer`. Shapes are
known then, so code that depends on them is resolved by running it, and what is computed from parameters and constants
alone is a constant. A traced tensor is a value of the graph being made, or a view of one, as `rlnas.interchange.views`
explains; the batch may stand at any of its axes, but in the graph it is always in front.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from rlnas.errors import GraphError
from rlnas.graph import OPS, Node
from rlnas.graph.facts import complete, facts_of
from rlnas.interchange.views import Sample, base_positions, find_sample, placed, steps_to
from rlnas.network import TAKEN

BATCH = 2
OURS = str(Path(__file__).parent)
THEIRS = str(Path(torch.__file__).parent)


@dataclass(frozen=True, eq=False)
class Traced:
    """What a tensor of the running module is.

    Attributes:
        node: The node whose value it shows.
        positions: For each entry its place in a batch of that node's values; None if it is that batch as it is.
        origin: Of a view, what it is a view of, and how.
        tensor: The tensor itself, kept alive so that no other takes its address.
    """

    node: str
    positions: Tensor | None
    tensor: Tensor
    origin: tuple[Traced, Callable[[Tensor], Tensor]] | None = None


@dataclass(frozen=True)
class Unknown:
    """A tensor that depends on the input but is no value of the graph."""

    why: str
    tensor: Tensor


@dataclass(frozen=True)
class Value:
    """An operand as the graph has it.

    Attributes:
        node: Id of its node.
        shape: Shape of one sample.
        sample: Where the batch stands in the running module's tensor.
        rank: Axes of that tensor.
    """

    node: str
    shape: tuple[int, ...]
    sample: Sample
    rank: int

    def axis(self, dim: int) -> int:
        """The axis of a sample for an axis of the running module's tensor."""
        found = self.sample.axis(dim, self.rank)
        if found is None:
            raise GraphError("it works along the batch, so that samples would be mixed")
        return found


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
    """

    def __init__(self, module: nn.Module, handlers: dict[str, Handler], *, opaque: bool, literal: bool = False) -> None:
        super().__init__()
        self.literal = literal
        self._layouts: dict[str, tuple[int, ...]] = {}
        self.nodes: list[Node] = []
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.tensors: dict[str, Tensor] = {}
        self.owners: dict[int, str] = {}
        self.reads: dict[str, list[Traced]] = {}
        self._handlers, self._opaque, self._module = handlers, opaque, module
        self._known: dict[int, Traced | Unknown] = {}
        self._trained: dict[int, Tensor] = {}
        self._names = {id(t): name for name, t in [*module.named_parameters(), *module.named_buffers()]}
        self._trained.update({id(p): p for p in module.parameters()})
        self.views: dict[tuple[str, bytes, tuple[int, ...]], str] = {}
        self._constants: dict[tuple[int, tuple[int, ...]], tuple[str, Tensor]] = {}
        self._storages: dict[int, list[int]] = {}
        self._kept: list[Tensor] = []

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

    def is_trained(self, tensor: Tensor) -> bool:
        """True for a parameter, and what was computed from one."""
        return id(tensor) in self._trained

    def derived(self, tensor: Tensor, source: Tensor) -> Tensor:
        """A constant that takes another's place."""
        self._kept.append(tensor)
        self._names[id(tensor)] = self._names.get(id(source), "constant")
        return tensor

    def find(self, value: Any) -> Traced | None:
        """What is known of an argument; None if it does not depend on the input."""
        found = self._known.get(id(value)) if isinstance(value, Tensor) else None
        if isinstance(found, Unknown):
            raise GraphError(f"it reads {found.why}")
        return found

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
        traced = self.is_traced(args) or self.is_traced(kwargs)
        name = plain_name(func)
        if traced and (name in REFUSED or getattr(func, "__name__", "") in NUMBERS):
            raise self.error(f"the flow of control, or a number, depends on the input ({name})")
        out = func(*args, **kwargs)
        if not traced:
            self._derive(args, kwargs, out)
            return out
        if "dropout" in name and out is args[0] and not kwargs.get("inplace"):
            out = out.clone()  # in eval mode it hands on its input, which may be read beside it
        tensors = [t for t in (out if isinstance(out, list | tuple) else (out,)) if isinstance(t, Tensor)]
        if not tensors or name == "set":
            if name in ("setitem", "set", "copy_"):
                raise self.error(
                    f"{name} writes into a value that depends on the input; use torch.where or concatenation"
                )
            return out
        try:
            self._write_down(func, name, args, kwargs, out)
        except GraphError as error:
            raise self.error(f"{name}: {error}") from None
        return out

    def _write_down(self, func: Any, name: str, args: Any, kwargs: dict[str, Any], out: Any) -> None:
        raw = getattr(func, "__name__", "")
        for value in args:
            self.find(value)
        changed = args[0] if args and out is args[0] and (raw.endswith("_") or kwargs.get("inplace")) else None
        before = self._known.get(id(changed)) if changed is not None else None
        if name in VIEWS and isinstance(before or self._known.get(id(args[0])), Traced):
            self._view(func, args, kwargs, out)
        elif name in DECISIONS and not self._opaque:
            pass  # refused as soon as something is made of it
        elif name in self._handlers:
            self._handlers[name](self, name, args, kwargs, out)
        elif self._opaque:
            self._black_box(func, args, kwargs, out)
        else:
            raise GraphError(
                "not one of the operations that rlnas knows; opaque=True keeps it as a black box that operators leave "
                f"alone. Known are {', '.join(sorted({*self._handlers, *VIEWS}))}"
            )
        for tensor in out if isinstance(out, list | tuple) else (out,):
            if isinstance(tensor, Tensor) and id(tensor) not in self._known:
                self.know(
                    tensor, Unknown(f"a result of {name} that mixes samples or is of no kind that rlnas knows", tensor)
                )
        if changed is not None:
            self._forget_aliases(changed)

    def _forget_aliases(self, changed: Tensor) -> None:
        """Views of a tensor that was written into are no longer what they were."""
        for other in self._storages.get(changed.untyped_storage().data_ptr(), []):
            known = self._known.get(other)
            if other != id(changed) and known is not None and known.tensor is not changed:
                self._known[other] = Unknown("a tensor that was changed in place through another view", known.tensor)

    def _derive(self, args: Any, kwargs: dict[str, Any], out: Any) -> None:
        """Remember which constants were computed from parameters, and from which."""
        tensors = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)]
        trained = any([id(a) in self._trained for a in tensors])
        names = [self._names[id(a)] for a in tensors if id(a) in self._names]
        if not names and not trained:
            return
        for tensor in out if isinstance(out, list | tuple) else (out,):
            if isinstance(tensor, Tensor):
                self._kept.append(tensor)
                if names:
                    self._names.setdefault(id(tensor), names[0])
                if trained and tensor.is_floating_point():
                    self._trained[id(tensor)] = tensor

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
        shown = func(positions, *rest, **kwargs)
        if isinstance(out, Tensor):
            out, shown = (out,), (shown,)
        for k, (tensor, where) in enumerate(zip(out, shown, strict=True)):
            same = traced.positions is None and where.shape == positions.shape and bool((where == positions).all())

            def again(places: Tensor, k: int = k) -> Tensor:
                found = func(places, *rest, **kwargs)
                return found if isinstance(found, Tensor) else found[k]

            self.know(tensor, Traced(traced.node, None if same else where, tensor, (traced, again)))

    def _black_box(self, func: Any, args: Any, kwargs: dict[str, Any], out: Any) -> None:
        if not isinstance(out, Tensor):
            raise GraphError("a black box must have one result")
        operands: list[Value] = []

        def text(value: Any) -> str:
            if isinstance(value, Tensor):
                operands.append(self.value(value))
                return "{" + str(len(operands) - 1) + "}"
            if isinstance(value, list | tuple):
                inner = ", ".join([text(v) for v in value])
                return f"[{inner}]" if isinstance(value, list) else f"({inner},)"
            if value is None or isinstance(value, bool | int | float | str):
                return repr(value)
            raise GraphError(f"a black box cannot keep the argument {value!r}")

        words = [text(a) for a in args] + [f"{k}={text(v)}" for k, v in kwargs.items()]
        call = call_text(func, words)
        if any([v.sample.batch or v.sample.merged > 1 for v in operands]) or out.shape[0] != BATCH:
            raise GraphError("a black box needs the batch in front")
        self.emit("opaque", operands, out, like=operands[0], text=call, shape=tuple(out.shape[1:]))

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
            return Value(self._laid_out(traced.node, traced, Sample(None, shape)), shape, Sample(None, shape), rank)
        positions = traced.positions
        if broadcast:
            for axis in range(positions.dim()):
                if positions.shape[axis] > 1 and bool((positions == positions.narrow(axis, 0, 1)).all()):
                    positions = positions.narrow(axis, 0, 1)
        sample = find_sample(positions, BATCH, math.prod(shape))
        if sample is None or sample.positions is None:
            raise GraphError("its input mixes the samples of a batch")
        node = self._shown(traced.node, sample.positions, whole=traced.origin is None)
        if node is None and traced.origin is not None:  # step by step, then
            before, again = traced.origin
            value = self._operand(before)
            places = placed(BATCH, value.shape, value.sample.batch, value.sample.merged)
            return self._operand(Traced(value.node, again(places), traced.tensor), broadcast=broadcast)
        if node is None:
            raise GraphError(f"its input is a rearrangement of {traced.node} that is not understood")
        return Value(self._laid_out(node, traced, sample), sample.shape, sample, rank)

    def _laid_out(self, node: str, traced: Traced, sample: Sample) -> str:
        """Id of a node whose value lies in memory as the running module's does, if that counts."""
        if not self.literal:
            return node
        shape = (BATCH, *self.shapes[node])
        wanted = _batch_first(traced.tensor, sample)
        if wanted.shape != shape or not wanted.is_contiguous():
            return node
        if all(x == y or size == 1 for size, x, y in zip(shape, wanted.stride(), self._layout(node), strict=True)):
            return node
        key = (node, b"contiguous", ())
        if key not in self.views:
            self.views[key] = self.add("contiguous", (node,))
        return self.views[key]

    def _layout(self, node: str) -> tuple[int, ...]:
        """Strides of a batch of a node's values."""
        if node not in self._layouts:
            shape = (BATCH, *self.shapes[node])
            found = next(n for n in reversed(self.nodes) if n.id == node)
            made = torch.empty(shape, device="meta")
            if OPS[found.op].view and found.inputs and found.op != "opaque":
                source = found.inputs[0]
                before = torch.empty_strided((BATCH, *self.shapes[source]), self._layout(source), device="meta")
                call = OPS[found.op].call
                assert call is not None
                made = eval(call(found, ("x",)), {"torch": torch, "x": before})
            self._layouts[node] = made.stride()
        return self._layouts[node]

    def _shown(self, node: str, positions: Tensor, *, whole: bool) -> str | None:
        """Id of a node that makes a view; None if no short way is known, nor a long one if the view is a whole."""
        key = (node, positions.numpy().tobytes(), tuple(positions.shape))
        if key not in self.views:
            steps = steps_to(positions, self.shapes[node])
            if steps is None or (not whole and any([len(a.get("indices", ())) > LONG for _, a in steps])):
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
        values = tensor.detach()
        if like is not None:
            values = self._sample_of(values, like, rank or like.rank)
        while values.dim() > 1 and values.shape[0] == 1 and (like is None or values.dim() > len(like.shape)):
            values = values[0]
        if values.dim() == 0:
            values = values.reshape(1)
        key = (id(tensor), tuple(values.shape))
        if key not in self._constants:
            dtype = {torch.bool: "bool", torch.int64: "int64"}.get(values.dtype, "float32")
            if dtype == "float32" and not values.is_floating_point():
                raise GraphError(f"constants of type {values.dtype} are not known")
            trained = id(tensor) in self._trained and dtype == "float32"
            made = self.unused(identifier(self._names.get(id(tensor), "constant")))
            node = complete(Node.make(made, "parameter", shape=tuple(values.shape), trained=trained, dtype=dtype))
            self.nodes.append(node)
            self.shapes[made] = tuple(values.shape)
            self.tensors[made] = values.clone()
            self._constants[key] = (made, tensor)
        return self._constants[key][0]

    def _sample_of(self, values: Tensor, like: Value, rank: int) -> Tensor:
        """A constant without the axis of the batch."""
        values = values.reshape(*[1] * (rank - values.dim()), *values.shape)
        at, merged = like.sample.batch + rank - like.rank, like.sample.merged
        if values.shape[at] == BATCH * merged and BATCH * merged > 1:
            split = values.movedim(at, 0).reshape(BATCH, merged, *values.movedim(at, 0).shape[1:])
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
        if self.literal:
            self._layouts[node] = _batch_first(out, Sample(None, shape, at, merged)).stride()
        self.know(out, Traced(node, None if plain else placed(BATCH, shape, at, merged), out))

    def add(self, op: str, inputs: Iterable[str], *, name: str = "", **attrs: Any) -> str:
        """Add a node and return its id."""
        made = self.unused(name or SHORT.get(op, op))
        given = {k: float(v) if k in FLOATS and not isinstance(v, bool) else v for k, v in attrs.items()}
        node = complete(Node.make(made, op, tuple(inputs), **given))
        self.nodes.append(node)
        self.shapes[made] = facts_of(node, tuple([self.shapes[i] for i in node.inputs])).shape
        return made

    def weight_name(self, weight: Tensor) -> str:
        """Name of the module that a weight belongs to, as an id."""
        name = self._names.get(id(weight), "")
        return identifier(name.rpartition(".")[0]) if name else ""

    def unused(self, wanted: str) -> str:
        """An id that no node has: the one wanted, or that with a number."""
        if wanted not in self.shapes and wanted not in TAKEN and wanted not in OPS and wanted not in SHORT.values():
            return wanted
        n = 1
        while f"{wanted}{n}" in self.shapes or f"{wanted}{n}" in TAKEN:
            n += 1
        return f"{wanted}{n}"

    # ------------------------------------------------------------------------------------------------------ errors

    def error(self, what: str) -> GraphError:
        """An error that says where in the user's code it arose."""
        frame: FrameType | None = sys._getframe(1)
        place, owner = "", ""
        while frame is not None:
            file = frame.f_code.co_filename
            if not place and not file.startswith((OURS, THEIRS)) and not file.startswith("<"):
                place = f" ({file}:{frame.f_lineno})"
            held = frame.f_locals.get("self")
            if not owner and isinstance(held, nn.Module):
                owner = next((name for name, m in self._module.named_modules() if m is held), "")
                owner = f" in {owner}" if owner else ""
            frame = frame.f_back
        return GraphError(f"cannot take in {type(self._module).__name__}{owner}{place}: {what}")


def _batch_first(tensor: Tensor, sample: Sample) -> Tensor:
    """A tensor of the running module with the batch in front."""
    if sample.merged > 1:
        at, shape = sample.batch, tensor.shape
        tensor = tensor.view(*shape[:at], BATCH, sample.merged, *shape[at + 1 :])
    return tensor.movedim(sample.batch, 0)


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
    {
        "eps",
        "momentum",
        "p",
        "value",
        "negative_slope",
        "alpha",
        "beta",
        "k",
        "threshold",
        "min_val",
        "max_val",
        "order",
    }
    | {"scale"}
)
LONG = 16
"""More places than this are not picked one by one if a view can be made in several steps."""

DECISIONS = frozenset(
    {"gt", "lt", "ge", "le", "eq", "ne", "greater", "less", "isnan", "isinf", "isfinite", "any", "all", "argmax"}
    | {"argmin", "argsort", "sort", "topk", "logical_not", "logical_and", "logical_or", "median"}
)
REFUSED = frozenset({"item", "tolist", "numpy", "nonzero", "is_nonzero", "equal", "allclose"})
NUMBERS = frozenset({"__bool__", "__int__", "__float__", "__index__", "__complex__", "__array__"})
VIEWS = frozenset(
    {"view", "reshape", "permute", "transpose", "t", "T", "mT", "flatten", "unflatten", "squeeze", "unsqueeze", "chunk"}
    | {"split", "split_with_sizes", "tensor_split", "select", "narrow", "getitem", "unbind", "expand", "expand_as"}
    | {"contiguous", "clone", "detach", "movedim", "moveaxis", "swapaxes", "swapdims", "ravel", "roll", "flip"}
    | {"repeat", "repeat_interleave", "tile", "index_select", "view_as", "reshape_as", "atleast_1d", "data", "positive"}
    | {
        "alias",
        "identity",
        "hsplit",
        "vsplit",
        "dsplit",
        "diagonal",
        "rot90",
        "adjoint",
        "broadcast_to",
        "take_along_dim",
    }
)


def plain_name(func: Any) -> str:
    """Name of a function without underscores around it; that of the property for its getter."""
    name: str = getattr(func, "__name__", str(func))
    if name == "__get__":
        owner = getattr(func, "__self__", None)
        return getattr(owner, "__name__", "get")
    if name.startswith("__") and name.endswith("__"):
        return name.strip("_")
    return name.rstrip("_")


def call_text(func: Any, words: Sequence[str]) -> str:
    """Source text of a call, for functions that torch offers by a name."""
    name: str = getattr(func, "__name__", "")
    if name == "__get__":
        return f"{words[0]}.{plain_name(func)}"
    places = {"torch": torch, "F": torch.nn.functional, "torch.fft": torch.fft, "torch.linalg": torch.linalg}
    for prefix, holder in places.items():
        short = name.removeprefix(prefix.removeprefix("torch.") + "_")
        if getattr(holder, short, None) is func:
            return f"{prefix}.{short}({', '.join(words)})"
    if getattr(Tensor, name, None) is func:
        return f"{words[0]}.{name}({', '.join(words[1:])})"
    raise GraphError(f"{name or func} is not a function that torch offers by a name, so that no source could call it")


def identifier(path: str) -> str:
    """A dotted path as a Python identifier."""
    made = re.sub(r"\W", "_", path).strip("_")
    return f"layer_{made}" if made[:1].isdigit() else made
