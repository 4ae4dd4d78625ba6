"""Layers as linear maps: what a convolution or linear layer reads for one place of its output, and its weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlnas.errors import OperatorError
from rlnas.graph import OPS, Graph, Node
from rlnas.network import Network

MAX_ROWS = 16384
MAX_VALUES = 2**25
"""Values at most of all that is kept of what one layer reads."""
BATCH = 64


@dataclass(frozen=True)
class Rows:
    """What a layer reads and makes at some places of some samples.

    Attributes:
        read: Shape (rows, groups, columns): the patch that each group of the layer reads.
        made: Shape (rows, outputs).
    """

    read: Tensor
    made: Tensor


def is_layer(graph: Graph, id: str) -> bool:
    """True for convolutions and linear layers: what they make is linear in what they read."""
    return OPS[graph.node(id).op].family in ("conv", "linear")


def n_groups(node: Node) -> int:
    """Groups of a convolution; 1 for a linear layer."""
    return 1 if node.op == "linear" else int(node["groups"])


def to_matrix(weight: Tensor, node: Node) -> Tensor:
    """The weight as a matrix for each group, shape (groups, outputs, columns), columns as in `Rows.read`."""
    n = n_groups(node)
    if node.op == "conv_transpose2d":
        split = weight.reshape(n, len(weight) // n, *weight.shape[1:]).transpose(1, 2)
        return split.flip(-1, -2).flatten(2)
    return weight.reshape(n, len(weight) // n, -1)


def from_matrix(matrix: Tensor, shape: Iterable[int], node: Node) -> Tensor:
    """Inverse of `to_matrix` for a weight of that shape."""
    shape = tuple(shape)
    if node.op == "conv_transpose2d":
        n = n_groups(node)
        split = matrix.reshape(n, shape[1], shape[0] // n, *shape[2:]).flip(-1, -2)
        return split.transpose(1, 2).reshape(shape)
    return matrix.reshape(shape)


def patches(read: Tensor, node: Node) -> Tensor:
    """A view of what a convolution reads, shape (samples, inputs, *places, *kernel)."""
    n, padding = len(node["kernel_size"]), node["padding"]
    stride, dilation, mode = node["stride"], node["dilation"], "constant"
    around = [(p, p) for p in padding]
    if node.op == "conv_transpose2d":  # a convolution of the map with zeros between its places
        spread = read.new_zeros(
            *read.shape[:2], *[(s - 1) * t + 1 for s, t in zip(read.shape[2:], stride, strict=True)]
        )
        spread[..., :: stride[0], :: stride[1]] = read
        reach = [d * (k - 1) for d, k in zip(dilation, node["kernel_size"], strict=True)]
        around = [(r - p, r - p + o) for r, p, o in zip(reach, padding, node["output_padding"], strict=True)]
        read, stride = spread, (1,) * n
    elif node["padding_mode"] != "zeros":
        mode = node["padding_mode"]
    if any([side != (0, 0) for side in around]):
        read = F.pad(read, [p for side in reversed(around) for p in side], mode=mode)
    for i, (k, d, s) in enumerate(zip(node["kernel_size"], dilation, stride, strict=True)):
        read = read.unfold(2 + i, d * (k - 1) + 1, s)[..., ::d]
    return read


def sample(n: int, columns: int = 1) -> Tensor:
    """Some of n rows, the same for the same n, spread at random so that no place of a map is left out."""
    most = min(MAX_ROWS, max(256, MAX_VALUES // columns))
    return torch.randperm(n, generator=torch.Generator().manual_seed(0))[:most].sort().values


def n_columns(graph: Graph, id: str) -> int:
    """Values that one place of all groups of a layer reads together."""
    node, shape = graph.node(id), graph.input_shapes(id)[0]
    return shape[-1] if node.op == "linear" else shape[0] * math.prod(node["kernel_size"])


def rows(network: Network, columns: Mapping[str, int], inputs: Tensor, *, reads: bool = True) -> dict[str, Rows]:
    """What some layers read and make in eval mode.

    Args:
        columns: The layers, and by how many columns the number of places is chosen; the same for the same number.
        reads: False if only what they make is asked for.

    Raises:
        OperatorError: If a value is not finite, so that nothing can be fitted to it.
    """
    graph = network.graph
    found: dict[str, tuple[list[Tensor], list[Tensor]]] = {id: ([], []) for id in columns}
    chosen = {id: sample(len(inputs) * _places(graph, id), n) for id, n in columns.items()}

    def take(id: str, read: Tensor, made: Tensor, first: int) -> None:
        node, places = graph.node(id), _places(graph, id)
        start, stop = first * places, (first + len(made)) * places
        here = chosen[id][(chosen[id] >= start) & (chosen[id] < stop)] - start
        if node.op == "linear":
            found[id][1].append(made.flatten(0, -2)[here])
            if reads:
                found[id][0].append(read.flatten(0, -2)[here][:, None])
            return
        at = _index(here, (len(made), *made.shape[2:]))
        found[id][1].append(made[at])
        if reads:
            patch = patches(read, node)[at]
            found[id][0].append(patch.reshape(len(here), n_groups(node), -1))

    run(network, found, inputs, take)
    joined = {
        id: Rows(torch.cat(read) if reads else torch.empty(0), torch.cat(made)) for id, (read, made) in found.items()
    }
    for id, pair in joined.items():
        check_finite(id, pair.read, pair.made)
    return joined


def _index(flat: Tensor, shape: tuple[int, ...]) -> Any:
    """Index of samples and places, given by their numbers, into a tensor with an axis of channels between them."""
    sample, *places = torch.unravel_index(flat, shape)
    return sample, slice(None), *places


def _places(graph: Graph, id: str) -> int:
    shape = graph.shapes[id]
    return math.prod(shape[:-1] if graph.node(id).op == "linear" else shape[1:])


def check_finite(id: str, *values: Tensor) -> None:
    """Refuse values to which nothing can be fitted."""
    if not all([bool(tensor.isfinite().all()) for tensor in values]):
        raise OperatorError(f"what {id} reads or makes of the calibration inputs is not finite")


class _Seen(Exception):
    """All layers asked for have been seen; what follows need not be computed."""


def run(network: Network, ids: Iterable[str], inputs: Tensor, take: Callable[[str, Tensor, Tensor, int], None]) -> None:
    """Run a network in eval mode and hand out what some of its layers read and make.

    Args:
        take: Called with the layer's id, what it read, what it made, and the number of the first sample of the batch.
    """
    module, waiting = network.module().eval(), set(ids)
    last, first, calls = len(waiting), 0, 0

    def listen(id: str) -> None:
        def hook(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            nonlocal calls
            take(id, args[0].detach(), output.detach(), first)
            calls += 1
            if calls == last:
                raise _Seen

        module.get_submodule(id).register_forward_hook(hook)

    for id in waiting:
        listen(id)
    with torch.no_grad():
        for first in range(0, len(inputs), BATCH):
            calls = 0
            with suppress(_Seen):
                module(inputs[first : first + BATCH])


def waves(graph: Graph, ids: Iterable[str]) -> list[list[str]]:
    """Layers in topological order, those together of which none can depend on another."""
    wanted = set(ids)
    level: dict[str, int] = {}
    found: dict[int, list[str]] = {}
    for id in graph.order:
        level[id] = max([level[i] for i in graph.node(id).inputs], default=0)
        if id in wanted:
            found.setdefault(level[id], []).append(id)
            level[id] += 1
    return [found[k] for k in sorted(found)]


def intercept_name(graph: Graph, id: str) -> str | None:
    """The tensor that shifts what a layer makes: its bias, or the running mean of a BatchNorm that alone reads it."""
    if "bias" in graph.params(id):
        return f"{id}.bias"
    norm = batch_norm_after(graph, id)
    return f"{norm}.running_mean" if norm else None


def batch_norm_after(graph: Graph, id: str) -> str | None:
    """The BatchNorm that alone reads a layer, channel by channel."""
    consumers = graph.consumers[id]
    if len(consumers) != 1 or graph.output == id or not graph.node(consumers[0]).op.startswith("batch_norm"):
        return None
    same = graph.facts[consumers[0]].flow.axis == graph.facts[id].flow.axis
    return consumers[0] if same and consumers[0] not in graph.shared else None


def shifted(values: Mapping[str, Tensor], name: str, shift: Tensor) -> Tensor:
    """A tensor named by `intercept_name` so that what its layer makes is ``shift`` more."""
    sign = 1.0 if name.endswith(".bias") else -1.0
    return values[name] + sign * shift.to(values[name].dtype)
