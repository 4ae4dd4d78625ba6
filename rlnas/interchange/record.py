"""The graph of a module in the making: its nodes, and what the tensors of the running module are in it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from rlnas.errors import GraphError
from rlnas.graph import OPS, Node
from rlnas.graph.facts import complete, facts_of
from rlnas.interchange.constants import Constants
from rlnas.interchange.layouts import laid_out
from rlnas.interchange.parameters import constant
from rlnas.interchange.place import place_of_call
from rlnas.interchange.spelling import identifier
from rlnas.interchange.values import BATCH, Tied, Traced, Unknown, Value
from rlnas.interchange.views import Sample, find_sample, placed, steps_to
from rlnas.network import TAKEN

MOST_NODES = 20_000
"""More operations than this are a loop over time that was unrolled; nothing could be done with such a graph."""

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


class Record:
    """What has been written down of a module.

    Args:
        module: The module that runs; its tensors' names become those of nodes.
        literal: True if every step is written down as it is, memory layouts included, where a shorter form with the
            same values would round differently.

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

    def __init__(self, module: nn.Module, *, literal: bool) -> None:
        self.literal, self.constants = literal, Constants(module)
        self.nodes: list[Node] = []
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.tensors: dict[str, Tensor] = {}
        self.layers: dict[str, tuple[Tensor, ...]] = {}
        self.uses: dict[str, tuple[Tensor, Callable[[Tensor], Tensor]]] = {}
        self.reads: dict[str, list[Traced]] = {}
        self.n_lost, self.risky = 0, False
        self.views: dict[tuple[str, bytes, tuple[int, ...]], str] = {}
        self._module = module
        self._reserved = {identifier(path) for path, _ in module.named_modules()}
        self.book: dict[int, Traced | Unknown] = {}
        self.layouts: dict[str, tuple[int, ...]] = {}
        self._owners: dict[tuple[Any, ...], str] = {}
        self._tables: dict[int, str] = {}
        self.parameters: dict[tuple[int, tuple[int, ...]], tuple[str, Tensor]] = {}
        self.alone: dict[int, tuple[str, Tensor]] = {}
        self.storages: dict[int, list[int]] = {}
        self.written: dict[int, tuple[Tensor, Tensor]] = {}

    # ------------------------------------------------------------------------------------------------ what is known

    def start(self, tensor: Tensor, *, dtype: str) -> None:
        """Make a tensor the network's input."""
        id = self.unused("input")
        self.nodes.append(Node.make(id, "input", shape=tuple(tensor.shape[1:]), dtype=dtype))
        self.shapes[id] = tuple(tensor.shape[1:])
        self.know(tensor, Traced(id, None, tensor))

    def know(self, tensor: Tensor, what: Traced | Unknown) -> None:
        """Remember what a tensor is."""
        self.book[id(tensor)] = what
        self.storages.setdefault(tensor.untyped_storage().data_ptr(), []).append(id(tensor))

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
        found = self.book.get(id(value)) if isinstance(value, Tensor) else None
        if isinstance(found, Unknown):
            raise GraphError(f"it reads {found.why}")
        return found

    def is_traced(self, value: Any) -> bool:
        """True if an argument depends on the input, or holds something that does."""
        if isinstance(value, Tensor):
            return id(value) in self.book
        if isinstance(value, list | tuple):
            return any([self.is_traced(v) for v in value])
        return isinstance(value, dict) and any([self.is_traced(v) for v in value.values()])

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
        node = self.shown(traced.node, sample.positions, whole=traced.origin is None)
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

    def shown(self, node: str, positions: Tensor, *, whole: bool) -> str | None:
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
        """Id of a node for a tensor that does not depend on the input.

        Args:
            like: An operand with which it broadcasts; tells which axis is the batch's.
            rank: Axes of the result that both broadcast to.
        """
        return constant(self, tensor, like, rank=rank)

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

    def refusal(self, what: str) -> GraphError:
        """An error that says where in the user's code it arose."""
        return GraphError(f"cannot take in {type(self._module).__name__}{place_of_call(self._module)}: {what}")

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
