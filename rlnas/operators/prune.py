"""Prune channels, compensated by least squares."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rlnas.graph import Graph, Site
from rlnas.graph.channels import ChannelGroup
from rlnas.graph.edit import resize
from rlnas.network import Network
from rlnas.operators.base import Edit, Operator, Reach, Tensors
from rlnas.operators.compensate import compensate
from rlnas.operators.criteria import CRITERIA, Criterion, get_criterion
from rlnas.operators.importance import Units, drop_units
from rlnas.operators.remap import axis_index, carry, remap
from rlnas.operators.widen import group_obstacle, parts_agree


class PruneChannels(Operator):
    """Remove the least important channels of a layer and of all layers coupled with it.

    A criterion says which: by default a channel counts as much as the layers that read it would miss if they were
    refitted to those that are left. With calibration inputs they are refitted at the end, whatever the criterion. The
    amount is the share of channels that goes.

    Args:
        criterion: Name of one of `rlnas.operators.criteria.CRITERIA`.

    References:
        He, Zhang, Sun, Channel Pruning for Accelerating Very Deep Neural Networks, ICCV 2017, arXiv:1707.06168.
        Fang et al., DepGraph, CVPR 2023, arXiv:2301.12900 (what must go together).
    """

    exact = False
    shrinks = True
    amounts = (0.25, 0.5)

    def __init__(self, criterion: str = "reconstruction") -> None:
        self.criterion = get_criterion(criterion)
        self.name = "prune_channels" if criterion == "reconstruction" else f"prune_channels_{criterion}"
        self.needs_calibration = self.criterion.needs_calibration

    def reach(self, op: str) -> Reach | None:
        return "component"

    def obstacle(self, graph: Graph, site: Site) -> str | None:
        if (reason := group_obstacle(graph, site)) is not None:
            return reason
        if not 0.0 < site.amount < 1.0:
            return "the amount is the share of channels to remove, between 0 and 1"
        group = graph.channels.of(site.anchor)
        assert group is not None
        lengths = lengths_after(graph, group, site.amount)
        if min(lengths.values()) < 1:
            return "a layer would be left without channels"
        if not parts_agree(group, lengths):
            return "the blocks of a grouped convolution would not shrink alike"
        return self.criterion.obstacle(graph, group.cells)

    def rewrite(self, graph: Graph, site: Site) -> tuple[Graph, Mapping[str, Any]]:
        group = graph.channels.of(site.anchor)
        assert group is not None
        lengths = lengths_after(graph, group, site.amount)
        return resize(graph, graph.channels, lengths), {"lengths": lengths}

    def tensors(
        self, network: Network, site: Site, edit: Edit, *, generator: torch.Generator, calibration: Tensor | None
    ) -> Tensors:
        group = network.graph.channels.of(site.anchor)
        assert group is not None
        units = Units.channels(network.graph, group.cells, edit.plan["lengths"])
        return drop(network, edit.graph, units, group.readers, self.criterion, generator, calibration)


def lengths_after(graph: Graph, group: ChannelGroup, share: float) -> dict[int, int]:
    """Lengths of a group's cells once a share of their channels has gone."""
    old = graph.channels.lengths
    return {cell: old[cell] - max(1, math.floor(old[cell] * share + 0.5)) for cell in group.cells}


def drop(
    network: Network,
    graph: Graph,
    units: Units,
    readers: tuple[str, ...],
    criterion: Criterion,
    generator: torch.Generator,
    calibration: Tensor | None,
) -> Tensors:
    """The tensors of the smaller graph: units chosen by a criterion go, and what reads them is refitted if it can be.

    Args:
        graph: The graph without the units.
        readers: Layers that read them.
    """
    scores = (criterion if readers else CRITERIA["magnitude"]).scores(network, units, readers, calibration)
    if calibration is None or not readers:
        assert scores is not None
        maps = units.kept(units.lowest(scores))
        return Tensors(remap(network, maps, noise=0.0, generator=generator), carry=carry(network, maps))
    maps, refitted = drop_units(network, units, readers, calibration, scores=scores)
    values = remap(refitted, maps, noise=0.0, generator=generator)
    channels = network.graph.channels
    kept = {id: axis_index(channels.rows[id]["out"], channels.lengths, maps) for id in readers}
    values = compensate(network, graph, values, readers, calibration, kept=kept)
    return Tensors(values, compensated=True, carry=carry(network, maps))
