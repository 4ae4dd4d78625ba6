"""Merge channels that carry the same, and remove channels that carry nothing."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence

import torch

from rlnas.graph import Graph
from rlnas.graph.channels import ChannelGroup
from rlnas.network import Network
from rlnas.operators.simplify.base import Finding, Simplification, Tensors
from rlnas.operators.simplify.channels import Gone, Move, balanced, cost_saved, readers_of, taken_out
from rlnas.operators.simplify.follow import Likeness
from rlnas.operators.simplify.layers import idle_inputs, pads_zeros


class Units(Simplification):
    """A pass over the groups of channels whose size is ours to change."""

    verb: str

    def find(self, network: Network) -> tuple[Finding, ...]:
        graph, found = network.graph, []
        groups = [group for group in graph.channels if not group.fixed]
        likeness = Likeness(network, training=self.training) if groups else None
        for group in groups:
            assert likeness is not None
            gone = balanced(graph, group, self.superfluous(network, likeness, group))
            if gone is None:
                continue
            moves = tuple(_moves(likeness, gone))
            lengths = graph.channels.lengths
            stay = tuple([(c, tuple([i for i in range(lengths[c]) if i not in out])) for c, out in gone.items() if out])
            n_params, macs = cost_saved(graph, stay, moves)
            n = sum(map(len, gone.values()))
            text = f"{n} of {group.size} channels of {', '.join(group.producers)} {self.verb}"
            nodes = tuple(dict.fromkeys((*group.producers, *group.readers)))
            if min(n_params, macs) >= 0:
                found.append(Finding(self.name, nodes, n_params, macs, text, n, (stay, moves)))
        return tuple(found)

    @abstractmethod
    def superfluous(self, network: Network, likeness: Likeness, group: ChannelGroup) -> Gone:
        """Channels of a group that can go."""

    def rewrite(self, graph: Graph, tensors: Tensors, findings: Sequence[Finding]) -> tuple[Graph, Tensors]:
        # Groups have no channels in common, so that all can go at once.
        stay = [entry for finding in findings for entry in finding.plan[0]]
        moves = [move for finding in findings for move in finding.plan[1]]
        return taken_out(graph, tensors, stay, moves)


def _moves(likeness: Likeness, gone: Gone) -> Iterator[Move]:
    for cell, channels in gone.items():
        for reader, at in readers_of(likeness.graph, cell):
            read, idle = likeness.read_by(reader), idle_inputs(likeness.graph.node(reader), likeness.tensors).tolist()
            constant, factors, places = read.constant.tolist(), read.factors.tolist(), at.tolist()
            for channel, target in channels.items():
                for place, to in zip(places[channel], places[target], strict=True):
                    if idle[place] or factors[place] == 0:
                        continue
                    if channel != target:
                        yield Move(reader, place, to, factors[place] / factors[to])
                    elif constant[place]:
                        yield Move(reader, place, -1, factors[place])


class MergeDuplicateChannels(Units):
    """Merge channels of which one is always a positive multiple of the other, wherever they are read.

    What reads them gets the sum of their columns, each times its factor. Factors pass through all that is positively
    homogeneous (ReLU, LeakyReLU, pooling, sums, products); behind anything else only equal channels count. Under a norm
    over channels as many have to go of each kind. Dropout drew for each channel by itself, and BatchNorm's running
    statistics may be what makes channels multiples of each other: that holds in eval mode only.
    """

    name = "merge_duplicate_channels"
    verb = "are multiples of others"

    def superfluous(self, network: Network, likeness: Likeness, group: ChannelGroup) -> Gone:
        pooled = {cell for run in group.pooled for cell in run}
        classes = {cell: _classes(likeness, cell) for cell in group.cells}
        n = math.gcd(*[len(c) for cell in pooled for c in classes[cell]])
        gone = {}
        for cell, found in classes.items():
            size = n if cell in pooled else max(map(len, found))
            chunks = [c[k : k + size] for c in found for k in range(0, len(c), size)]
            gone[cell] = {channel: chunk[0] for chunk in chunks for channel in chunk[1:]}
        return {} if pooled and balanced(likeness.graph, group, gone) != gone else gone


def _classes(likeness: Likeness, cell: int) -> list[list[int]]:
    """Channels of a cell that are multiples of each other at all places where they are read."""
    graph = likeness.graph
    marks = [torch.arange(0).expand(graph.channels.lengths[cell], 0)]
    for id, places in readers_of(graph, cell):
        read = likeness.read_by(id)
        marks.append(torch.where(read.zero, -1, read.kinds)[places])
    for id, places in readers_of(graph, cell, "out"):
        if graph.facts[id].flow.pooled:  # here channels have to be equal
            read = likeness.read(graph.node(id).inputs[0], graph.facts[id].flow.axis)
            equal = likeness.kinds.by(read.kinds[:, None], read.factors[:, None], scaled=False)
            marks.append(equal.kinds[places])
    if len(marks) == 1:
        return [[i] for i in range(graph.channels.lengths[cell])]
    classes: dict[int, list[int]] = {}
    for channel, number in enumerate(torch.unique(torch.cat(marks, 1), dim=0, return_inverse=True)[1].tolist()):
        classes.setdefault(number, []).append(channel)
    return list(classes.values())


class RemoveDeadUnits(Units):
    """Remove channels that nothing reads with a weight other than zero, or that are constant.

    A constant goes into the biases of what reads it, but where zeros are padded only a constant zero does.
    """

    name = "remove_dead_units"
    verb = "are read with zeros only or are constant"

    def superfluous(self, network: Network, likeness: Likeness, group: ChannelGroup) -> Gone:
        if group.pooled:
            return {}
        graph, gone = network.graph, {}
        for cell in group.cells:
            dead = torch.ones(graph.channels.lengths[cell], dtype=torch.bool)
            for id, places in readers_of(graph, cell):
                node, read = graph.node(id), likeness.read_by(id)
                folds = read.zero if pads_zeros(node) else read.constant
                dead &= (idle_inputs(node, network.tensors) | folds)[places].all(1)
            gone[cell] = {channel: channel for channel in dead.nonzero().flatten().tolist()}
        return gone
