"""Prune channels, compensated by least squares."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rlnas.graph import OPS, Graph, Site
from rlnas.graph.channels import Axis, ChannelGroup
from rlnas.graph.edit import resize
from rlnas.network import Network
from rlnas.operators.base import Edit, Operator, Tensors
from rlnas.operators.compensate import capture, compensate
from rlnas.operators.remap import axis_index, remap, split_row
from rlnas.operators.widen import group_obstacle, parts_agree


class PruneChannels(Operator):
    """Remove the least important channels of a layer and of all layers coupled with it.

    With calibration inputs, a channel counts as much as what reads it would miss: the squared norm of its columns times
    its variance; the readers are then refitted by least squares. Without, it counts by the norms of its rows and
    columns. The amount is the share of channels that goes.

    References:
        He, Zhang, Sun, Channel Pruning for Accelerating Very Deep Neural Networks, ICCV 2017, arXiv:1707.06168.
        Fang et al., DepGraph, CVPR 2023, arXiv:2301.12900 (what must go together).
    """

    name = "prune_channels"
    exact = False
    shrinks = True
    amounts = (0.25, 0.5)

    def obstacle(self, graph: Graph, site: Site) -> str | None:
        if (reason := group_obstacle(graph, site)) is not None:
            return reason
        if not 0.0 < site.amount < 1.0:
            return "the amount is the share of channels to remove, between 0 and 1"
        group = graph.channels.of(site.anchor)
        assert group is not None
        lengths = self._lengths(graph, group, site.amount)
        if min(lengths.values()) < 1:
            return "a layer would be left without channels"
        if not parts_agree(group, lengths):
            return "the blocks of a grouped convolution would not shrink alike"
        return None

    def _lengths(self, graph: Graph, group: ChannelGroup, share: float) -> dict[int, int]:
        old = graph.channels.lengths
        return {cell: old[cell] - max(1, math.floor(old[cell] * share + 0.5)) for cell in group.cells}

    def rewrite(self, graph: Graph, site: Site) -> tuple[Graph, Mapping[str, Any]]:
        group = graph.channels.of(site.anchor)
        assert group is not None
        lengths = self._lengths(graph, group, site.amount)
        return resize(graph, graph.channels, lengths), {"lengths": lengths}

    def tensors(
        self, network: Network, site: Site, edit: Edit, *, generator: torch.Generator, calibration: Tensor | None
    ) -> Tensors:
        group = network.graph.channels.of(site.anchor)
        assert group is not None
        scores = channel_scores(network, group, calibration)
        maps = {
            cell: scores[cell].argsort(descending=True, stable=True)[:length].sort().values
            for cell, length in edit.plan["lengths"].items()
        }
        values = remap(network, edit.graph, maps, noise=0.0, generator=generator)
        if calibration is None or not group.readers:
            return Tensors(values)
        channels = network.graph.channels
        kept = {id: axis_index(channels.axes[id], channels.lengths, maps) for id in group.readers}
        values = compensate(network, edit.graph, values, group.readers, calibration, kept=kept)
        return Tensors(values, compensated=True)


def channel_scores(network: Network, group: ChannelGroup, calibration: Tensor | None) -> dict[int, Tensor]:
    """How much each channel of a group matters, by cell."""
    graph, lengths = network.graph, network.graph.channels.lengths
    scores = {cell: torch.zeros(lengths[cell], dtype=torch.float64) for cell in group.cells}
    rows: dict[int, Tensor] = {cell: torch.zeros(lengths[cell], dtype=torch.float64) for cell in group.cells}
    for id in group.producers:
        _spread(rows, graph.channels.axes[id], lengths, network.tensors[f"{id}.weight"].flatten(1).square().sum(1))
    seen = capture(network, group.readers, calibration) if calibration is not None else {}
    for id in group.readers:
        node, weight = graph.node(id), network.tensors[f"{id}.weight"]
        source = graph.channels.axes[node.inputs[0]]
        n = node["groups"] if OPS[node.op].channels(node, graph.input_shapes(id)) == "grouped" else 1
        columns = torch.cat([b.transpose(0, 1).flatten(1).square().sum(1) for b in weight.chunk(n)])
        if id in seen:
            read = seen[id][0].transpose(0, 1).flatten(1)
            columns = columns * read.var(1)
        for part, values in zip(split_row(source, lengths, n), columns.chunk(n), strict=True):
            _spread(scores, part, lengths, values)
    if calibration is None:
        return {cell: rows[cell] * scores[cell] if group.readers else rows[cell] for cell in group.cells}
    return scores if group.readers else rows


def _spread(scores: dict[int, Tensor], row: Axis, lengths: Mapping[int, int], values: Tensor) -> None:
    """Add the values of entries along a row to the scores of their channels."""
    start = 0
    for cell, block in row:
        size = lengths[cell] * block
        if cell in scores:
            scores[cell] += values[start : start + size].double().view(-1, block).sum(1)
        start += size
