"""More heads of attention, wider values, wider keys: the same function."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rlnas.graph import Graph, Site
from rlnas.graph.cells import Axis
from rlnas.graph.edit import resize
from rlnas.network import Network, tensor_name
from rlnas.operators.base import Edit, Operator, Tensors, whole
from rlnas.operators.remap import NEW, Maps, axis_index, carry, remap, split_row
from rlnas.operators.widen import MAX_CHANNELS

MAX_HEADS = 64
LINEAR = frozenset(
    {
        *("identity", "dropout", "concat", "slice", "permute", "reshape", "flatten"),
        *("add", "sub", "neg", "mul_scalar", "div_scalar"),
    }
)
"""Ops that are linear in all they read: a channel that is zero stays zero, and one that is the mean of others too."""


@dataclass(frozen=True)
class Heads:
    """Cells of an attention's heads: in the query a row for each head, in key and value for each that queries share.

    Attributes:
        shared: Heads of queries that read one head of keys and values.
    """

    query: tuple[Axis, ...]
    key: tuple[Axis, ...]
    value: tuple[Axis, ...]
    shared: int

    def width(self, graph: Graph, name: str) -> int:
        """Channels of one head."""
        return sum([graph.channels.lengths[cell] for cell, _ in self.rows(name)[0]])

    def rows(self, name: str) -> tuple[Axis, ...]:
        """The rows by their name in `rlnas.graph.Channels.rows`."""
        found: tuple[Axis, ...] = getattr(self, name)
        return found


def find_heads(graph: Graph, id: str) -> Heads | str:
    """Heads that can be resized; or why they cannot, as a half sentence."""
    node, rows, channels = graph.node(id), graph.channels.rows[id], graph.channels
    if node.op != "attention":
        return f"{id} is a {node.op}, not an attention"
    if not {"query", "key", "value"} <= rows.keys():
        return "its queries, keys or values cannot be traced to the layers that make them"
    names = {"query": node["heads"], "key": node["kv_heads"], "value": node["kv_heads"]}
    parts = {name: tuple(split_row(rows[name], channels.lengths, n)) for name, n in names.items()}
    entries = [entry for split in parts.values() for part in split for entry in part]
    cells = {cell for cell, _ in entries}
    if len(cells) < len(entries) or any([block != 1 for _, block in entries]):
        return "its queries, keys and values are not channels of their own"
    if cells & channels.frozen:
        return "the sizes of its queries, keys or values are fixed"
    others = [channels.rows[other.id] for other in graph.nodes if other.op == "attention" and other.id != id]
    if any([cell in cells for named in others for row in named.values() for cell, _ in row]):
        return "another attention reads the same queries, keys or values"
    own = {tuple([tuple([cell for cell, _ in part]) for part in split]) for split in parts.values()}
    made: set[int] = set()
    for group in channels:
        if cells.isdisjoint(group.cells):
            continue
        made.update(group.cells)
        if any([not cells.isdisjoint(run) for run in group.pooled]):
            return "a normalization takes statistics over its queries, keys or values"
        if any([partition not in own and not cells.isdisjoint(sum(partition, ())) for partition in group.parts]):
            return "another layer cuts its queries, keys or values into parts"
    if not cells <= made:
        return "its queries, keys or values are not made by layers"
    return Heads(parts["query"], parts["key"], parts["value"], node["heads"] // node["kv_heads"])


class AttentionOperator(Operator):
    """Resizes what an attention reads; new channels are made at random and read with weights of zero."""

    exact = True
    anchors = frozenset({"attention"})

    @abstractmethod
    def sizes(self, graph: Graph, heads: Heads, amount: float) -> tuple[dict[int, int], dict[str, int]] | str:
        """New lengths of cells and new attributes of the attention; or why not, as a half sentence."""

    def obstacle(self, graph: Graph, site: Site) -> str | None:
        heads = find_heads(graph, site.anchor)
        found = heads if isinstance(heads, str) else self.sizes(graph, heads, site.amount)
        return found if isinstance(found, str) else None

    def rewrite(self, graph: Graph, site: Site) -> tuple[Graph, Mapping[str, Any]]:
        heads = find_heads(graph, site.anchor)
        assert isinstance(heads, Heads)
        found = self.sizes(graph, heads, site.amount)
        assert not isinstance(found, str)
        lengths, attributes = found
        after = resize(graph, graph.channels, lengths, changed={site.anchor: attributes})
        return after, {"lengths": lengths, "heads": heads}

    def tensors(
        self, network: Network, site: Site, edit: Edit, *, generator: torch.Generator, calibration: Tensor | None
    ) -> Tensors:
        maps = grown(network.graph, edit.plan["lengths"])
        values = remap(network, maps, noise=0.0, generator=generator)
        return Tensors(values, carry=carry(network, maps))


def grown(graph: Graph, lengths: Mapping[int, int]) -> dict[int, Tensor]:
    """Maps of cells that get new channels at their ends."""
    old = graph.channels.lengths
    return {c: torch.cat([torch.arange(old[c]), torch.full((n - old[c],), NEW)]) for c, n in lengths.items()}


def _factor(amount: float, width: int) -> int | str:
    """The width after growth by a factor."""
    if not 1.0 < amount <= 16.0:
        return "the amount is the factor of growth, above 1 and at most 16"
    wider = max(width + 1, math.floor(width * amount + 0.5))
    return wider if wider <= MAX_CHANNELS else f"more than {MAX_CHANNELS} channels"


def _longer(graph: Graph, parts: tuple[Axis, ...], by: int) -> dict[int, int]:
    """Lengths of the last cell of each part."""
    return {part[-1][0]: graph.channels.lengths[part[-1][0]] + by for part in parts}


class WidenValues(AttentionOperator):
    """Make the values of every head wider; the output projection reads what is new with zeros.

    The amount is the factor.

    References:
        Gesmundo, Maile, Composable Function-preserving Expansions, 2023, arXiv:2308.06103 (heads expansion).
    """

    name = "widen_values"
    amounts = (1.5, 2.0)

    def sizes(self, graph: Graph, heads: Heads, amount: float) -> tuple[dict[int, int], dict[str, int]] | str:
        width = heads.width(graph, "value")
        wider = _factor(amount, width)
        return wider if isinstance(wider, str) else (_longer(graph, heads.value, wider - width), {})


class WidenKeys(AttentionOperator):
    """Make the queries and keys of every head wider, new keys being zero.

    The scale of the scores is an attribute of its own and stays as it is. The amount is the factor.

    References:
        Gesmundo, Maile, Composable Function-preserving Expansions, 2023, arXiv:2308.06103 (attention expansion).
    """

    name = "widen_keys"
    amounts = (1.5, 2.0)

    def obstacle(self, graph: Graph, site: Site) -> str | None:
        if (reason := super().obstacle(graph, site)) is not None:
            return reason
        if not _reaches_layers(graph, graph.node(site.anchor).inputs[1]):
            return "between the layer that makes its keys and itself something might turn zeros into other values"
        return None

    def sizes(self, graph: Graph, heads: Heads, amount: float) -> tuple[dict[int, int], dict[str, int]] | str:
        width = heads.width(graph, "key")
        wider = _factor(amount, width)
        return wider if isinstance(wider, str) else (_longer(graph, heads.query + heads.key, wider - width), {})

    def tensors(
        self, network: Network, site: Site, edit: Edit, *, generator: torch.Generator, calibration: Tensor | None
    ) -> Tensors:
        made = super().tensors(network, site, edit, generator=generator, calibration=calibration)
        keys = {cell for part in edit.plan["heads"].key for cell, _ in part}
        maps = {c: m if c in keys else m.clamp_min(0) for c, m in grown(network.graph, edit.plan["lengths"]).items()}
        return Tensors(dict(made.values) | zero_rows(network, made.values, maps), carry=made.carry)


def _reaches_layers(graph: Graph, id: str) -> bool:
    """True if nothing but ops that make zero of zero lies between a value and the layers that make its channels."""
    stack, seen = [id], {id}
    while stack:
        node = graph.node(stack.pop())
        if graph.facts[node.id].flow.kind == "layer":
            continue
        if node.op not in LINEAR:
            return False
        stack += [i for i in node.inputs if i not in seen]
        seen.update(node.inputs)
    return True


def zero_rows(network: Network, values: Mapping[str, Tensor], maps: Maps) -> dict[str, Tensor]:
    """The tensors of layers that make new channels, with zeros for these."""
    graph, channels, zeroed = network.graph, network.graph.channels, {}
    for id in graph.order:
        row = channels.rows[id].get("out", ())
        if graph.facts[id].flow.kind != "layer" or not any([cell in maps for cell, _ in row]):
            continue
        new = axis_index(row, channels.lengths, maps) < 0
        for name, param in graph.params(id).items():
            if "out" in param.axes and bool(new.any()):
                full = tensor_name(id, name)
                zeroed[full] = values[full].index_fill(param.axes.index("out"), new.nonzero().flatten(), 0.0)
    return zeroed


class AddHeads(AttentionOperator):
    """Give an attention more heads, which the output projection reads with zeros.

    Where several heads of queries share keys and values, a head of keys and values comes with as many heads of queries
    as the others have. The amount is the number of new heads of keys and values.

    References:
        Gesmundo, Maile, Composable Function-preserving Expansions, 2023, arXiv:2308.06103 (head addition).
    """

    name = "add_heads"
    amounts = (1,)

    def obstacle(self, graph: Graph, site: Site) -> str | None:
        if (reason := super().obstacle(graph, site)) is not None:
            return reason
        return _output_obstacle(graph, site.anchor)

    def sizes(self, graph: Graph, heads: Heads, amount: float) -> tuple[dict[int, int], dict[str, int]] | str:
        if not whole(amount) or not 1 <= amount <= MAX_HEADS:
            return f"the amount is the number of new heads, a whole number from 1 to {MAX_HEADS}"
        n, widths = int(amount), {name: heads.width(graph, name) for name in ("key", "value")}
        lengths = _longer(graph, heads.query[-1:], n * heads.shared * widths["key"])
        lengths |= _longer(graph, heads.key[-1:], n * widths["key"])
        lengths |= _longer(graph, heads.value[-1:], n * widths["value"])
        if max(lengths.values()) * heads.shared > MAX_CHANNELS:
            return f"more than {MAX_CHANNELS} channels"
        return lengths, {"heads": len(heads.query) + n * heads.shared, "kv_heads": len(heads.key) + n}

    def tensors(
        self, network: Network, site: Site, edit: Edit, *, generator: torch.Generator, calibration: Tensor | None
    ) -> Tensors:
        made = super().tensors(network, site, edit, generator=generator, calibration=calibration)
        graph, carried = network.graph, made.carry
        assert carried is not None
        if graph.node(site.anchor)["heads"] == graph.node(site.anchor)["kv_heads"]:
            return made
        readers = _readers(graph, site.anchor)

        def in_order(old: Mapping[str, Tensor], new: Mapping[str, Tensor]) -> dict[str, Tensor]:
            """New heads come after all others, though their values' cell lies among those that several heads read."""
            moved = {}
            for name, axis in readers.items():
                if name in new:
                    size = list(new[name].shape)
                    size[axis] -= old[name].shape[axis]
                    moved[name] = torch.cat([old[name], old[name].new_zeros(size)], axis)
            return dict(new) | moved

        values = in_order(network.tensors, made.values)
        return Tensors(values, carry=lambda moments, power: in_order(moments, carried(moments, power)))


def _readers(graph: Graph, id: str) -> dict[str, int]:
    """Tensors that read all that an attention makes, and the axis along which they do."""
    made = graph.channels.axes[id][1]
    return {
        tensor_name(reader, name): param.axes.index("in")
        for reader, rows in graph.channels.rows.items()
        if rows.get("in") == made
        for name, param in graph.params(reader).items()
        if "in" in param.axes
    }


def _output_obstacle(graph: Graph, id: str) -> str | None:
    """Why new heads, which come after all others, would not stay there; only where several heads read one's values."""
    made, channels = graph.channels.axes[id][1], graph.channels
    assert made is not None
    if len(set(made)) == len(made):
        return None
    for rows in channels.rows.values():
        out = [entry for entry in rows.get("out", ()) if entry in made]
        if len(set(out)) < len(out):
            return "another layer makes channels that meet those of heads which share their values"
    stack, seen = list(graph.consumers[id]), set(graph.consumers[id])
    while stack:
        other = stack.pop()
        kind = graph.facts[other].flow.kind
        if kind in ("elementwise", "permute"):
            stack += [i for i in graph.consumers[other] if i not in seen]
            seen.update(graph.consumers[other])
        elif kind != "layer" or channels.rows[other].get("in") != made:
            return "heads that share their values must go whole into a layer"
    return None
