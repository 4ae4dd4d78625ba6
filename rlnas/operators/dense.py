"""Grow a densely connected block by one mini-layer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from rlnas.graph import OPS, Graph, Node, Param, Site
from rlnas.graph.edit import insert_after
from rlnas.network import Network, fresh_tensor, tensor_name
from rlnas.operators.base import Edit, Operator, Tensors
from rlnas.operators.fill import FRESH, filled
from rlnas.operators.style import CONVOLUTIONS, HIDDEN, REMEMBERED, Chain, form_of

PASSING = HIDDEN | frozenset(
    [
        *("dropout", "identity", "batch_norm1d", "batch_norm2d", "batch_norm3d", "instance_norm1d", "instance_norm2d"),
        *(op.name for op in OPS.values() if op.family == "pool" and op.name != "reduce"),
    ]
)
"""Ops that treat each channel of a map, or each feature, by itself."""

BOTTLENECK = 4
MOST = 8.0


class DenseGrowth(Operator):
    """Let a new mini-layer read a concatenation, and concatenate what it makes.

    What reads the concatenation reads the new channels too, with weights of zero. The mini-layer is a norm as the
    network has and an activation, a convolution of kernel 1 to four times as many channels as it makes (where it reads
    more than that) with norm and activation, and a convolution of kernel 3. The amount says how many channels it makes,
    as a multiple of those that the last input of the concatenation brings: in a dense block, of its growth rate.

    Optimizer state: new layers and the new channels of old ones start from zero, all else is kept.

    References:
        Huang et al., Densely Connected Convolutional Networks, CVPR 2017, arXiv:1608.06993.
        Cai et al., Efficient Architecture Search by Network Transformation, AAAI 2018, arXiv:1707.04873.
    """

    name = "dense_growth"
    exact = True
    amounts = (1.0,)
    anchors = frozenset({"concat"})

    def obstacle(self, graph: Graph, site: Site) -> str | None:
        node, form = graph.node(site.anchor), form_of(graph, site.anchor)
        if node.op != "concat" or form is None or not form.places or node["axis"] != 0:
            return "a mini-layer goes after a concatenation of the channels of maps"
        if not 0.0 < site.amount <= MOST:
            return f"the amount is a multiple of the channels that the last input brings, at most {MOST:g}"
        if not _takes_more(graph)[site.anchor]:
            return "something that follows cannot take more channels"
        return None

    def rewrite(self, graph: Graph, site: Site) -> tuple[Graph, Mapping[str, Any]]:
        chain = Chain(graph, site.anchor)
        growth = max(1, math.floor(site.amount * graph.input_shapes(site.anchor)[-1][0] + 0.5))
        normed = chain.norm()
        chain.activation()
        if BOTTLENECK * growth < chain.form.channels:
            chain.normed_layer(BOTTLENECK * growth)
            chain.activation()
        layer = chain.layer(growth, FRESH, kernel=3 if min(chain.form.places) > 1 else 1, bias=not normed)
        chain.add("concat", site.anchor, layer, axis=0)
        after = insert_after(graph, site.anchor, chain.nodes, output=chain.last)
        return after, {"fill": chain.fill, "layer": layer}

    def tensors(
        self, network: Network, site: Site, edit: Edit, *, generator: torch.Generator, calibration: Tensor | None
    ) -> Tensors:
        grown = _grown(network, edit.graph, edit.plan["layer"])
        values = filled(network, edit.graph, edit.plan["fill"], generator=generator)
        values |= {name: _spread(values[name], *spec) for name, spec in grown.items()}

        def carry(given: Mapping[str, Tensor], power: int) -> dict[str, Tensor]:
            return dict(given) | {
                name: _spread(given[name], param, axis, kept, zero=True)
                for name, (param, axis, kept) in grown.items()
                if name in given
            }

        return Tensors(values, carry=carry)


@lru_cache(maxsize=REMEMBERED)
def _takes_more(graph: Graph) -> Mapping[str, bool]:
    """For each node, whether all that follows can take more channels."""
    takes: dict[str, bool] = {}
    for id in reversed(graph.order):
        takes[id] = id != graph.output and all(
            [_reads_more(graph, graph.node(r), takes[r]) for r in graph.consumers[id]]
        )
    return takes


def _reads_more(graph: Graph, node: Node, after: bool) -> bool:
    """True if a node can read more channels, given whether what follows it can."""
    if node.id in graph.shared:
        return False
    if node.op in CONVOLUTIONS:
        return bool(node["groups"] == 1)
    if node.op == "linear":
        return len(graph.shapes[node.id]) == 1
    if node.op == "reduce":
        return after and 0 not in node["axes"]
    if node.op == "flatten":
        return after and node["start"] == 0
    return after and (node.op in PASSING or (node.op == "concat" and node["axis"] == 0))


Grown = tuple[Param, int, Tensor]
"""A tensor's new form, the axis that grows, and the places of the old values along it."""


def _grown(network: Network, graph: Graph, layer: str) -> dict[str, Grown]:
    """The tensors that read, or pass on, the channels of a new layer."""
    rows, lengths = graph.channels.rows, graph.channels.lengths
    fresh = {cell for cell, _ in rows[layer]["out"]}
    found: dict[str, Grown] = {}
    for id in network.graph.order:
        for name, param in graph.params(id).items():
            if param.shape == network.graph.params(id)[name].shape:
                continue
            axis = next(i for i, size in enumerate(network.graph.params(id)[name].shape) if size != param.shape[i])
            old = [torch.full((lengths[c] * block,), c not in fresh) for c, block in rows[id][param.axes[axis] or ""]]
            found[tensor_name(id, name)] = param, axis, torch.cat(old).nonzero().flatten()
    return found


def _spread(values: Tensor, param: Param, axis: int, kept: Tensor, *, zero: bool = False) -> Tensor:
    """Old values at their new places; readers have zeros in between, norms what is usual in a fresh one."""
    if zero or param.axes[axis] == "in":
        wide = values.new_zeros(param.shape)
    else:
        wide = fresh_tensor(param, generator=torch.Generator(), dtype=values.dtype)
    return wide.index_copy_(axis, kept, values)
