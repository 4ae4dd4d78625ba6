"""A narrower network: channels of every group go at once, and every layer is refitted to what it made before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from rlnas.graph import Graph, Site
from rlnas.graph.edit import resize
from rlnas.graph.ops import is_depthwise
from rlnas.network import Network
from rlnas.operators.base import Edit, Operator, Tensors
from rlnas.operators.compensate import compensate
from rlnas.operators.criteria import CRITERIA
from rlnas.operators.importance import Units, drop_units
from rlnas.operators.patches import is_layer
from rlnas.operators.prune import PruneChannels, lengths_after
from rlnas.operators.remap import axis_index, carry, remap


class PruneWidth(Operator):
    """Remove the same share of channels from every group that can be pruned.

    Which ones is decided group by group. With calibration inputs every layer behind is then refitted by least squares,
    from the first to the last: on what it reads in the narrower network, to what it made in the given one. So errors
    are made up for as they arise; pruning one group after the other, each refit would take those of the last one for
    right. The anchor is the input, the amount the share of channels that goes.

    Args:
        criterion: Name of one of `rlnas.operators.criteria.CRITERIA`.

    References:
        He, Zhang, Sun, Channel Pruning for Accelerating Very Deep Neural Networks, ICCV 2017, arXiv:1707.06168.
        Howard et al., MobileNets, 2017, arXiv:1704.04861 (width multiplier).
    """

    exact = False
    shrinks = True
    amounts = (0.25, 0.5)
    anchors = frozenset({"input"})

    def __init__(self, criterion: str = "reconstruction") -> None:
        self._one = PruneChannels(criterion)
        self.needs_calibration = self._one.needs_calibration
        self.name = "prune_width" if criterion == "reconstruction" else f"prune_width_{criterion}"

    def obstacle(self, graph: Graph, site: Site) -> str | None:
        if graph.node(site.anchor).op != "input":
            return f"{site.anchor} is not the network's input"
        if not 0.0 < site.amount < 1.0:
            return "the amount is the share of channels to remove, between 0 and 1"
        return None if self._anchors(graph, site.amount) else "no group of channels can be pruned so far"

    def _anchors(self, graph: Graph, share: float) -> list[str]:
        """Anchors of the groups that are pruned."""
        sites = [Site(self._one.name, group.anchor, None, share) for group in graph.channels]
        return [site.anchor for site in sites if self._one.obstacle(graph, site) is None]

    def rewrite(self, graph: Graph, site: Site) -> tuple[Graph, Mapping[str, Any]]:
        lengths: dict[str, dict[int, int]] = {}
        for anchor in self._anchors(graph, site.amount):
            group = graph.channels.of(anchor)
            assert group is not None
            lengths[anchor] = lengths_after(graph, group, site.amount)
        changed = {cell: n for each in lengths.values() for cell, n in each.items()}
        return resize(graph, graph.channels, changed), {"lengths": lengths}

    def tensors(
        self, network: Network, site: Site, edit: Edit, *, generator: torch.Generator, calibration: Tensor | None
    ) -> Tensors:
        graph, current = network.graph, network
        maps: dict[int, Tensor] = {}
        readers: dict[str, None] = {}
        for anchor, lengths in edit.plan["lengths"].items():
            group = graph.channels.of(anchor)
            assert group is not None
            units = Units.channels(graph, group.cells, lengths)
            criterion = self._one.criterion if group.readers else CRITERIA["magnitude"]
            scores = criterion.scores(network, units, group.readers, calibration)
            if calibration is None or not group.readers:
                assert scores is not None
                maps |= units.kept(units.lowest(scores))
            else:
                chosen, current = drop_units(current, units, group.readers, calibration, scores=scores)
                maps |= chosen
            readers |= dict.fromkeys(group.readers)
        values = remap(current, maps, noise=0.0, generator=generator)
        carried = carry(network, maps)
        if calibration is None or not readers:
            return Tensors(values, carry=carried)
        layers, channels = _behind(graph, readers), graph.channels
        kept = {
            id: axis_index(channels.rows[id]["out"], channels.lengths, maps)
            for id in layers
            if "out" in channels.rows[id]
        }
        values = compensate(network, edit.graph, values, layers, calibration, kept=kept)
        return Tensors(values, compensated=True, carry=carried)


def _behind(graph: Graph, readers: Iterable[str]) -> list[str]:
    """Dense and grouped layers that read something changed: the readers, and all that depends on one of them."""
    touched = set(readers)
    for id in graph.order:
        if not touched.isdisjoint(graph.node(id).inputs):
            touched.add(id)
    return [
        id
        for id in graph.order
        if id in touched
        and id not in graph.shared
        and is_layer(graph, id)
        and not is_depthwise(graph.node(id), graph.input_shapes(id))
    ]
