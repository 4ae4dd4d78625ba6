"""Fewer heads of attention, and narrower values, with the output projection refitted."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rlnas.graph import Graph, Site
from rlnas.graph.edit import resize
from rlnas.network import Network
from rlnas.operators.attention import Heads, find_heads
from rlnas.operators.base import Edit, Operator, Tensors, whole
from rlnas.operators.criteria import CRITERIA
from rlnas.operators.importance import Units
from rlnas.operators.prune import drop


class AttentionShrinking(Operator):
    """Takes part of what an attention reads away, and refits the layers that read the attention."""

    exact = False
    shrinks = True
    anchors = frozenset({"attention"})

    @abstractmethod
    def lengths(self, graph: Graph, heads: Heads, amount: float) -> dict[int, int] | str:
        """New lengths of cells, whichever heads or channels it is that go; or why not, as a half sentence."""

    @abstractmethod
    def attributes(self, heads: Heads, amount: float) -> dict[str, int]:
        """New attributes of the attention."""

    @abstractmethod
    def units(self, graph: Graph, heads: Heads, lengths: Mapping[int, int]) -> Units:
        """What goes or stays as a whole."""

    def obstacle(self, graph: Graph, site: Site) -> str | None:
        heads = find_heads(graph, site.anchor)
        found = heads if isinstance(heads, str) else self.lengths(graph, heads, site.amount)
        return found if isinstance(found, str) else None

    def rewrite(self, graph: Graph, site: Site) -> tuple[Graph, Mapping[str, Any]]:
        heads = find_heads(graph, site.anchor)
        assert isinstance(heads, Heads)
        lengths = self.lengths(graph, heads, site.amount)
        assert not isinstance(lengths, str)
        changed = {site.anchor: self.attributes(heads, site.amount)}
        after = resize(graph, graph.channels, lengths, changed=changed)
        return after, {
            "units": self.units(graph, heads, lengths),
            "values": {c for part in heads.value for c, _ in part},
        }

    def tensors(
        self, network: Network, site: Site, edit: Edit, *, generator: torch.Generator, calibration: Tensor | None
    ) -> Tensors:
        rows, values = network.graph.channels.rows, edit.plan["values"]
        readers = [id for id in network.graph.order if any([cell in values for cell, _ in rows[id].get("in", ())])]
        criterion = CRITERIA["reconstruction"]
        return drop(network, edit.graph, edit.plan["units"], tuple(readers), criterion, generator, calibration)


class PruneHeads(AttentionShrinking):
    """Remove the heads of an attention that matter least.

    A head counts as much as the layers that read the attention would miss if they were refitted to the others; with
    calibration inputs they are refitted at the end. Where several heads of queries share keys and values, they go
    together. The amount is the number of heads of keys and values that go.

    References:
        Michel, Levy, Neubig, Are Sixteen Heads Really Better than One?, NeurIPS 2019, arXiv:1905.10650.
    """

    name = "prune_heads"
    amounts = (1,)

    def lengths(self, graph: Graph, heads: Heads, amount: float) -> dict[int, int] | str:
        if not whole(amount) or not 1 <= amount < len(heads.key):
            return f"the amount is the number of heads that go, and of {len(heads.key)} one must stay"
        for name in ("query", "key", "value"):
            cells = {cell for part in heads.rows(name) for cell, _ in part}
            rows = [row for named in graph.channels.rows.values() for row in named.values()]
            rows += [row for axes in graph.channels.axes.values() for row in axes if row]
            for row in rows:
                met = {cell for cell, _ in row} & cells
                if met and met != cells:
                    return f"its heads' {name} channels are made or read by different layers, so that they differ"
        n = int(amount)
        gone = [*heads.key[-n:], *heads.value[-n:], *heads.query[-n * heads.shared :]]
        return {cell: 0 for part in gone for cell, _ in part}

    def attributes(self, heads: Heads, amount: float) -> dict[str, int]:
        left = len(heads.key) - int(amount)
        return {"heads": left * heads.shared, "kv_heads": left}

    def units(self, graph: Graph, heads: Heads, lengths: Mapping[int, int]) -> Units:
        n = len(heads.key)
        of: dict[int, Tensor] = {}
        for k in range(n):
            queries = heads.query[k * heads.shared : (k + 1) * heads.shared]
            for part in (heads.key[k], heads.value[k], *queries):
                of |= {cell: torch.full((graph.channels.lengths[cell],), k) for cell, _ in part}
        gone = sum([all([lengths.get(cell) == 0 for cell, _ in part]) for part in heads.key])
        return Units(of, torch.zeros(n, dtype=torch.int64), (gone,))


class ShrinkValues(AttentionShrinking):
    """Remove the least important channels of the values of every head.

    With calibration inputs the layers that read the attention are refitted. The amount is the share of each head's
    channels that goes.

    References:
        He, Zhang, Sun, Channel Pruning for Accelerating Very Deep Neural Networks, ICCV 2017, arXiv:1707.06168.
    """

    name = "shrink_values"
    amounts = (0.25, 0.5)

    def lengths(self, graph: Graph, heads: Heads, amount: float) -> dict[int, int] | str:
        return shorter(graph, heads, "value", amount)

    def attributes(self, heads: Heads, amount: float) -> dict[str, int]:
        return {}

    def units(self, graph: Graph, heads: Heads, lengths: Mapping[int, int]) -> Units:
        return Units.channels(graph, [cell for part in heads.value for cell, _ in part], lengths)


def shorter(graph: Graph, heads: Heads, name: str, share: float) -> dict[int, int] | str:
    """Lengths of the cells of every head without a share of the channels; or why not, as a half sentence."""
    if not 0.0 < share < 1.0:
        return "the amount is the share of each head's channels to remove, between 0 and 1"
    if any([len(part) != 1 for part in heads.rows(name)]):
        return f"a head's {name} channels are made by several layers"
    width = heads.width(graph, name)
    left = width - max(1, int(width * share + 0.5))
    if left < 1:
        return "a head would be left without channels"
    return {part[0][0]: left for part in heads.rows(name)}
