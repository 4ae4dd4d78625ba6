"""A wider residual stream that is read through norms: the same function."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from rlnas.graph import OPS, Graph, Node, Site
from rlnas.graph.edit import resize
from rlnas.network import Network, fresh_tensor, tensor_name
from rlnas.operators.attention import LINEAR, grown
from rlnas.operators.base import Edit, Operator, Tensors
from rlnas.operators.remap import axis_index, carry, remap
from rlnas.operators.widen import MAX_CHANNELS, group_obstacle

NORMS = ("layer_norm", "rms_norm")
State = Literal["mean", "zero"]
"""What a new channel of a value is: the mean of the others, or zero."""


@dataclass(frozen=True)
class Stream:
    """A residual stream that can be widened.

    Attributes:
        cell: Its channels.
        new: What a new channel is: the mean of the others where norms take off the mean.
        norms: The norms that read it.
        writers: Layers and parameters that write it.
        readers: What a new channel is where a layer reads it.
    """

    cell: int
    new: State
    norms: tuple[str, ...]
    writers: tuple[str, ...]
    readers: Mapping[str, State]


def find_stream(graph: Graph, anchor: str) -> Stream | str:
    """The residual stream that a layer is the first to write; or why it cannot be widened, as a half sentence."""
    channels = graph.channels
    group = channels.of(anchor)
    if group is None or group.fixed:
        return group_obstacle(graph, Site("", anchor)) or ""
    if not group.pooled or len(group.cells) > 1 or group.parts:
        return "its channels are not those of a residual stream that norms read as a whole"
    (cell,) = group.cells
    places = {id: [i for i, row in enumerate(rows) if row and cell in dict(row)] for id, rows in channels.axes.items()}
    norms = [id for id in graph.order if places[id] and graph.node(id).op in NORMS]
    kinds = {graph.node(id).op for id in norms}
    if len(kinds) != 1 or not all([graph.node(id)["affine"] for id in norms]):
        return "not all norms on the residual stream are of one kind and have a scale"
    new: State = "mean" if kinds == {"layer_norm"} else "zero"
    states: dict[str, State] = {}
    writers, readers = [], {}
    for id in graph.order:
        node = graph.node(id)
        if cell in dict(channels.rows[id].get("in", ())):
            readers[id] = states[node.inputs[0]]
        if not places[id]:
            continue
        kind, met = graph.facts[id].flow.kind, {states.get(i) for i in node.inputs}
        alone = places[id] == [graph.facts[id].flow.axis] and channels.rows[id].get("out") == ((cell, 1),)
        if kind == "layer" and alone:
            states[id] = new
            writers.append(id)
        elif id in norms and alone and met == {new}:
            states[id] = "zero"
        elif _linear(node) and len(met) == 1 and None not in met:
            states[id] = states[node.inputs[0]]
        else:
            return f"{node.op} {id} on the residual stream is neither linear nor a norm that a layer reads"
    return Stream(cell, new, tuple(norms), tuple(writers), readers)


def _linear(node: Node) -> bool:
    return node.op in LINEAR or (node.op == "reduce" and node["kind"] in ("mean", "sum"))


class WidenHidden(Operator):
    """Make the residual stream of a pre-norm network wider.

    Before LayerNorm, a new channel is the mean of the others in all that is written, so that the mean stays and what is
    read of it is zero. Before RMSNorm it is zero itself. The scales of the norms, and their epsilons, make good for the
    smaller variance; layers read the new channels with random weights. The anchor is the first layer that writes the
    stream, the amount the factor.

    References:
        Wang et al., LEMON: Lossless Model Expansion, ICLR 2024, arXiv:2310.07999 (LayerNorm).
        Gesmundo, Maile, Composable Function-preserving Expansions, 2023, arXiv:2308.06103 (RMSNorm).
    """

    name = "widen_hidden"
    exact = True
    amounts = (1.5, 2.0)
    anchors = frozenset(name for name, op in OPS.items() if op.family in ("conv", "linear", "embedding"))

    def obstacle(self, graph: Graph, site: Site) -> str | None:
        if (reason := group_obstacle(graph, site)) is not None:
            return reason
        if not 1.0 < site.amount <= 16.0:
            return "the amount is the factor of growth, above 1 and at most 16"
        stream = find_stream(graph, site.anchor)
        if isinstance(stream, str):
            return stream
        if self._width(graph, stream, site.amount) > MAX_CHANNELS:
            return f"more than {MAX_CHANNELS} channels"
        return None

    def _width(self, graph: Graph, stream: Stream, factor: float) -> int:
        old = graph.channels.lengths[stream.cell]
        return max(old + 1, math.floor(old * factor + 0.5))

    def rewrite(self, graph: Graph, site: Site) -> tuple[Graph, Mapping[str, Any]]:
        stream = find_stream(graph, site.anchor)
        assert isinstance(stream, Stream)
        width = self._width(graph, stream, site.amount)
        share = graph.channels.lengths[stream.cell] / width
        eps = {id: {"eps": graph.node(id)["eps"] * share} for id in stream.norms}
        lengths = {stream.cell: width}
        after = resize(graph, graph.channels, lengths, changed=eps)
        return after, {"stream": stream, "lengths": lengths, "scale": math.sqrt(share)}

    def tensors(
        self, network: Network, site: Site, edit: Edit, *, generator: torch.Generator, calibration: Tensor | None
    ) -> Tensors:
        stream, scale, old = edit.plan["stream"], edit.plan["scale"], network.graph
        maps = grown(old, edit.plan["lengths"])
        values = remap(network, maps, noise=0.0, generator=generator)
        width = old.channels.lengths[stream.cell]
        for id in stream.writers:
            for name, param in old.params(id).items():
                if "out" in param.axes:
                    full, axis = tensor_name(id, name), param.axes.index("out")
                    values[full] = _extended(values[full], axis, width, stream.new)
        for id, state in stream.readers.items():
            if state == "zero":
                fresh = fresh_tensor(edit.graph.params(id)["weight"], generator=generator, dtype=network.dtype)
                columns = (axis_index(old.channels.rows[id]["in"], old.channels.lengths, maps) < 0).nonzero().flatten()
                axis = old.params(id)["weight"].axes.index("in")
                name = tensor_name(id, "weight")
                values[name] = values[name].index_copy(axis, columns, fresh.index_select(axis, columns))
        for id in stream.norms:
            name = tensor_name(id, "weight")
            values[name] = torch.cat([values[name][:width] * scale, values[name][width:]])
        carried = carry(network, maps)

        def moments(given: Mapping[str, Tensor], power: int) -> dict[str, Tensor]:
            made = carried(given, power)
            names = [tensor_name(id, "weight") for id in stream.norms]
            return made | {name: made[name] / scale**power for name in names if name in made}

        return Tensors(values, carry=moments)


def _extended(tensor: Tensor, axis: int, width: int, new: State) -> Tensor:
    """Entries from ``width`` on along an axis set to zero, or to the mean of those before."""
    kept, rest = torch.split(tensor, [width, tensor.shape[axis] - width], axis)
    if new == "zero":
        return torch.cat([kept, torch.zeros_like(rest)], axis)
    return torch.cat([kept, kept.double().mean(axis, keepdim=True).to(tensor.dtype).expand_as(rest)], axis)
