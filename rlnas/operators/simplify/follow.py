"""Follow kinds of channels through a network, op by op."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from rlnas.graph import OPS, Graph, Node
from rlnas.graph.follow import aligned
from rlnas.graph.table.moves import DROPOUTS
from rlnas.network import Network, tensor_name
from rlnas.operators.simplify.alike import CONSTANT, Alike, Kinds
from rlnas.operators.simplify.fold import scale_and_shift
from rlnas.operators.simplify.layers import bias_of, by_blocks, pads_zeros, read_axis, slack_of

_POOLS = [f"{prefix}{kind}_pool{n}d" for prefix in ("", "adaptive_") for kind in ("max", "avg") for n in (1, 2, 3)]
_MOVES = ("identity", "layout", "slice", "permute", "reshape", "flatten", "index_select", "roll")
HOMOGENEOUS = {
    *("relu", "leaky_relu", "prelu", "abs", "neg", "mul_scalar", "div_scalar", "interpolate"),
    *_POOLS,
    *_MOVES,
    *DROPOUTS,
}
"""Ops out of which a positive factor can be drawn, in eval mode."""

KEEPS_CONSTANTS = {*[pool for pool in _POOLS if not pool.startswith("avg")], *_MOVES, *DROPOUTS}
"""Ops that leave a constant what it is; the average of a window may reach over the border."""

Axes = dict[int, Alike]


class Likeness:
    """What is known of all channels that can be followed.

    Attributes:
        axes: For each node what its channels are alike in, by axis.
    """

    def __init__(self, network: Network, *, training: bool) -> None:
        self.graph, self.tensors, self.training = network.graph, network.tensors, training
        self.slack = slack_of(network.dtype)
        self.kinds = Kinds(self.slack)
        self.axes: dict[str, Axes] = {}
        with torch.no_grad():
            for node in map(self.graph.node, self.graph.order):
                rows = self.graph.channels.axes[node.id]
                wanted = [axis for axis, row in enumerate(rows) if row is not None]
                follow = _FOLLOW.get(self.graph.facts[node.id].flow.kind)
                self.axes[node.id] = follow(self, node, wanted) if follow and wanted else {}

    def read(self, id: str, axis: int) -> Alike:
        """Channels along an axis of a value."""
        if axis not in self.axes[id]:
            self.axes[id][axis] = self.kinds.different(self.graph.shapes[id][axis])
        return self.axes[id][axis]

    def read_by(self, id: str) -> Alike:
        """Channels that a layer reads."""
        return self.read(self.graph.node(id).inputs[0], read_axis(self.graph, id))

    def _tensor(self, node: Node, name: str) -> Tensor:
        return self.tensors[tensor_name(node.id, name)].double()

    # ----------------------------------------------------------------------------------------------- layers

    def layer(self, node: Node, wanted: list[int]) -> Axes:
        axis = self.graph.facts[node.id].flow.axis
        if node.op == "parameter":
            rows = self._tensor(node, "").movedim(axis, 0)
            return {axis: self._learned(rows.reshape(len(rows), -1))}
        if node.id in self.graph.shared:
            return {}
        if node.op == "embedding":
            return {axis: self._learned(self._tensor(node, "weight").T)}
        made = {}
        for other in wanted:
            if other != axis:
                made[other] = self.kinds.mapped(self.read(node.inputs[0], other), homogeneous=not node["bias"])
        blocks, bias, read = by_blocks(node, self.tensors), bias_of(node, self.tensors), self.read_by(node.id)
        places = torch.arange(len(read)).chunk(len(blocks))
        shifts = bias.chunk(len(blocks))
        parts = [self._block(*part, node) for part in zip(blocks, shifts, map(read.choose, places), strict=True)]
        return made | {axis: Alike(torch.cat([p.kinds for p in parts]), torch.cat([p.factors for p in parts]))}

    def _learned(self, rows: Tensor) -> Alike:
        made = self.kinds.by(rows.new_zeros(len(rows), 0), rows, scaled=True)
        return made.with_constants((rows == rows[:, :1]).all(1), rows[:, 0])

    def _block(self, weight: Tensor, bias: Tensor, read: Alike, node: Node) -> Alike:
        """Outputs of a layer: sums over the kinds that it reads. The weight has the shape (out, in, taps)."""
        scaled = weight * read.factors[:, None]
        if not pads_zeros(node):
            bias = bias + scaled[:, read.constant].sum((1, 2))
            scaled, read = scaled[:, ~read.constant], read.choose((~read.constant).nonzero().flatten())
        kinds, inverse = torch.unique(read.kinds, return_inverse=True)
        total = scaled
        if len(kinds) < len(read):
            total = scaled.new_zeros(len(weight), len(kinds), weight.shape[2]).index_add_(1, inverse, scaled)
            size = torch.zeros_like(total).index_add_(1, inverse, scaled.abs()).amax((0, 2), keepdim=True)
            total[total.abs() <= self.slack * size] = 0.0  # what cancels out leaves rounding behind
        rows = torch.cat([total.flatten(1), bias[:, None]], 1)
        made = self.kinds.by(rows.new_zeros(len(rows), 0), rows, scaled=True)
        return made.with_constants((total == 0).flatten(1).all(1), bias)

    # ------------------------------------------------------------------------------------------ channel by channel

    def channelwise(self, node: Node, wanted: list[int]) -> Axes:
        flow, source = self.graph.facts[node.id].flow, node.inputs[0]
        given = self.read(source, flow.axis)
        others = [axis for axis in wanted if axis != flow.axis]
        made = {axis: self.kinds.mapped(self.read(source, axis), homogeneous=False) for axis in others}
        if node.id in self.graph.shared:
            return made
        if node.op.startswith("conv"):
            taps, shift = by_blocks(node, self.tensors).flatten(1), bias_of(node, self.tensors)
            return made | {flow.axis: self._affine(given, taps, shift, folds=not pads_zeros(node))}
        if node.op.startswith("batch_norm") and not self.training:
            scale, shift = scale_and_shift(node, self.tensors)
            return made | {flow.axis: self._affine(given, scale[:, None], shift, folds=True)}
        if not flow.pooled and not self.graph.params(node.id):
            return made | {flow.axis: self._each(node, given)}
        # Statistics over the channels of a block: each channel is a part of them like the others.
        block = torch.arange(len(given)) * flow.blocks // len(given) if flow.pooled else torch.zeros(len(given))
        own = [self._tensor(node, n) for n, p in self.graph.params(node.id).items() if p.shape == (len(given),)]
        keys = torch.stack([given.kinds, block.long()], 1)
        like = self.kinds.by(keys, torch.stack([given.factors, *own], 1), scaled=False)
        if node.op.startswith("batch_norm") and node["affine"]:
            like = like.with_constants(own[0] == 0, own[1])
        return made | {flow.axis: like}

    def _affine(self, given: Alike, taps: Tensor, shift: Tensor, *, folds: bool) -> Alike:
        """Each channel times some taps, and a summand; ``folds`` if a constant stays one."""
        taps = taps * given.factors[:, None]
        made = self.kinds.by(given.kinds[:, None], torch.cat([taps, shift[:, None]], 1), scaled=True)
        fixed = (taps == 0).all(1) | (given.constant if folds else given.zero)
        return made.with_constants(fixed, taps.sum(1) + shift)

    # ------------------------------------------------------------------------------------------------ by place

    def elementwise(self, node: Node, wanted: list[int]) -> Axes:
        made = {}
        for axis in wanted:
            given = [self._met(node, id, axis) for id in node.inputs]
            made[axis] = self._each(node, given[0]) if len(given) == 1 else self._merged(node, given)
        return made

    def _met(self, node: Node, id: str, axis: int) -> Alike:
        """Channels of an input along an axis of the output; if it has but one there, it stands in all places."""
        size, rank = self.graph.shapes[node.id][axis], len(self.graph.shapes[node.id])
        own = axis - rank + len(self.graph.shapes[id])
        return self.read(id, own) if own >= 0 and self.graph.shapes[id][own] == size else self.kinds.equal(size)

    def _each(self, node: Node, given: Alike) -> Alike:
        """Channels after an op that does the same to each."""
        if node.op in DROPOUTS and self.training and node["p"] > 0:
            return self.kinds.different(len(given))
        homogeneous, constant, kind = node.op in HOMOGENEOUS, None, ""
        if node.op == "reduce":
            kind = node["kind"]
            homogeneous = kind in ("mean", "sum", "max", "min")
        if node.op in KEEPS_CONSTANTS or kind in ("mean", "max", "min"):
            constant = given.factors
        elif OPS[node.op].call and self.graph.facts[node.id].flow.kind == "elementwise":
            constant = computed(node, given.factors)
        return self.kinds.mapped(given, homogeneous=homogeneous, constant=constant)

    def _merged(self, node: Node, given: list[Alike]) -> Alike:
        kinds = torch.stack([a.kinds for a in given], 1)
        factors = torch.stack([a.factors for a in given], 1)
        fixed = (kinds == CONSTANT).all(1)
        if node.op in ("add", "sub"):
            signed = factors if node.op == "add" else factors * torch.tensor([1.0, -1.0])
            return self.kinds.by(kinds, signed, scaled=True).with_constants(fixed, signed.sum(1))
        if node.op == "mul":
            product = factors.prod(1)
            keys = torch.cat([kinds, product.sign().long()[:, None]], 1)
            made = Alike(self.kinds.by(keys, product.new_zeros(len(product), 0), scaled=False).kinds, product.abs())
            return made.with_constants(fixed | (product == 0), product)
        return self.kinds.by(kinds, factors, scaled=node.op in ("maximum", "minimum"))

    # --------------------------------------------------------------------------------------------------- moved

    def along(self, node: Node, wanted: list[int]) -> Axes:
        flow, source = self.graph.facts[node.id].flow, node.inputs[0]
        axes = [a for a in range(len(self.graph.shapes[source])) if flow.kept or a not in flow.axes]
        return {new: self._each(node, self.read(source, old)) for new, old in enumerate(axes) if new in wanted}

    def concat(self, node: Node, wanted: list[int]) -> Axes:
        joined, made = self.graph.facts[node.id].flow.axis, {}
        for axis in wanted:
            given = [self.read(id, axis) for id in node.inputs]
            kinds, factors = [a.kinds for a in given], [a.factors for a in given]
            if axis == joined:
                made[axis] = Alike(torch.cat(kinds), torch.cat(factors))
            else:
                made[axis] = self.kinds.by(torch.stack(kinds, 1), torch.stack(factors, 1), scaled=True)
        return made

    def slice(self, node: Node, wanted: list[int]) -> Axes:
        cut, places = self.graph.facts[node.id].flow.axis, torch.arange(node["start"], node["stop"], node["step"])
        given = {axis: self.read(node.inputs[0], axis) for axis in wanted}
        return {axis: a.choose(places) if axis == cut else self._each(node, a) for axis, a in given.items()}

    def permute(self, node: Node, wanted: list[int]) -> Axes:
        return {axis: self._each(node, self.read(node.inputs[0], node["dims"][axis])) for axis in wanted}

    def reshape(self, node: Node, wanted: list[int]) -> Axes:
        source, made = node.inputs[0], {}
        before, after = self.graph.shapes[source], self.graph.shapes[node.id]
        tracked = {axis for axis, row in enumerate(self.graph.channels.axes[source]) if row is not None}
        for old, new in aligned(before, after, tracked):
            followed = [axis for axis in old if axis in tracked]
            if len(followed) != 1 or len(new) != 1 or new[0] not in wanted:
                continue
            given, at = self.read(source, followed[0]), followed[0]
            inner = math.prod([before[a] for a in old if a > at])
            place = torch.arange(math.prod([before[a] for a in old]))
            spread = given.choose(place // inner % len(given))
            keys = torch.stack([spread.kinds, place // (inner * len(given)), place % inner], 1)
            like = Alike(
                self.kinds.by(keys, spread.factors.new_zeros(len(place), 0), scaled=False).kinds, spread.factors
            )
            made[new[0]] = like.with_constants(spread.constant, spread.factors)
        return made


def computed(node: Node, values: Tensor) -> Tensor:
    """A function of one value at a time, run as the network runs it."""
    given = Node.make("given", "input", shape=(1,), dtype="float32")
    graph = Graph((given, Node("made", node.op, ("given",), node.attrs)), "made")
    with torch.no_grad():
        result: Tensor = Network(graph, {}).module().eval()(values[:, None])
    return result.flatten()


_FOLLOW: dict[str, Callable[[Likeness, Node, list[int]], Axes]] = {
    "layer": Likeness.layer,
    "channelwise": Likeness.channelwise,
    "elementwise": Likeness.elementwise,
    "along": Likeness.along,
    "concat": Likeness.concat,
    "slice": Likeness.slice,
    "reshape": Likeness.reshape,
    "permute": Likeness.permute,
}
