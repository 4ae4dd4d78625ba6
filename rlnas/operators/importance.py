"""Which channels of a group matter least, and what their readers make do with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from rlnas.graph.cells import Axis
from rlnas.graph.channels import ChannelGroup
from rlnas.graph.ops import n_blocks
from rlnas.network import Network
from rlnas.operators.compensate import capture, covariance, intercept_name, sample
from rlnas.operators.remap import split_row


class _Reader:
    """Some columns of a block of a layer that reads channels: what it would miss of its output if more channels went.

    With P the inverse of the covariance of what it reads plus a ridge, and W its weights, refitted after each loss, the
    loss of entry e costs |W_e|^2 (1 / P_ee - ridge): nothing if the entry is constant, little if others give it too.

    Args:
        block: The block's weights, a view into the layer's, shape (outputs, inputs, *kernel).
        columns: Positions of the entries among the inputs; those of one entry, if it has several, side by side.
        channels: Number of each entry's channel within the group; -1 for those of other groups.
        read: What the block reads, shape (samples, inputs, *places).
        centred: True if the layer can shift its output.

    References:
        Hassibi, Stork, Second Order Derivatives for Network Pruning: Optimal Brain Surgeon, NeurIPS 1992.
    """

    def __init__(self, block: Tensor, columns: Tensor, channels: Tensor, read: Tensor, *, centred: bool) -> None:
        self._block, self._columns, self._channels = block, columns, channels
        # The places of a map, flattened or not, are so many samples, and the taps of a kernel so many outputs.
        signals = self._by_entry(read[:, columns])
        signals = signals[sample(len(signals))].double()
        if centred:
            signals = signals - signals.mean(0)
        gram, self._ridge = covariance(signals)
        self._precision = torch.linalg.inv(gram)
        self._weights = self._by_entry(block[:, columns]).double()

    def _by_entry(self, values: Tensor) -> Tensor:
        return values.reshape(len(values), len(self._channels), -1).transpose(1, 2).flatten(0, 1)

    def costs(self, n: int) -> Tensor:
        """Cost of the loss of each of n channels."""
        entries = self._weights.square().sum(0) * (1 / self._precision.diagonal() - self._ridge).clamp_min(0.0)
        ours = self._channels >= 0
        return torch.zeros(n, dtype=entries.dtype).index_add_(0, self._channels[ours], entries[ours])

    def drop(self, channel: int) -> None:
        """Lose a channel and refit."""
        for e in (self._channels == channel).nonzero().flatten().tolist():
            row = self._precision[e] / self._precision[e, e]
            self._weights = self._weights - self._weights[:, e, None] * row
            self._precision = self._precision - self._precision[:, e, None] * row
            self._weights[:, e] = 0.0
            self._precision[e, e] = 1.0

    def write(self) -> None:
        """Put the refitted weights into the block."""
        old = self._block[:, self._columns]
        new = self._weights.reshape(len(old), -1, len(self._channels)).transpose(1, 2).reshape(old.shape)
        self._block[:, self._columns] = new.to(old.dtype)


def choose_by_fit(
    network: Network, group: ChannelGroup, lengths: Mapping[int, int], calibration: Tensor
) -> tuple[dict[int, Tensor], Network]:
    """Drop one channel after the other, each time that which costs least once its readers are refitted.

    Args:
        lengths: How many channels of each cell stay.

    Returns:
        Old indices of the channels that stay, by cell; and the network with its readers refitted, place by place, so
        that they need no other.
    """
    old = network.graph.channels.lengths
    start, n = {}, 0
    for cell in group.cells:
        start[cell], n = n, n + old[cell]
    weights = {id: network.tensors[f"{id}.weight"].clone() for id in group.readers}
    readers = list(_readers(network, weights, start, calibration))
    spare = {cell: old[cell] - lengths[cell] for cell in group.cells}
    gone = torch.zeros(n, dtype=torch.bool)
    while any(spare.values()):
        costs = torch.stack([reader.costs(n) for reader in readers]).sum(0)
        costs[gone] = torch.inf
        for cell in group.cells:
            if spare[cell] == 0:
                costs[start[cell] : start[cell] + old[cell]] = torch.inf
        worst = int(costs.argmin())
        gone[worst] = True
        spare[next(cell for cell in group.cells if start[cell] <= worst < start[cell] + old[cell])] -= 1
        for reader in readers:
            reader.drop(worst)
    for reader in readers:
        reader.write()
    refitted = Network(network.graph, {**network.tensors, **{f"{id}.weight": w for id, w in weights.items()}})
    return {cell: (~gone[start[cell] : start[cell] + old[cell]]).nonzero().flatten() for cell in group.cells}, refitted


def _readers(
    network: Network, weights: Mapping[str, Tensor], start: Mapping[int, int], calibration: Tensor
) -> Iterator[_Reader]:
    graph, lengths = network.graph, network.graph.channels.lengths
    for id, (read, _) in capture(network, weights, calibration).items():
        node = graph.node(id)
        n = n_blocks(node, graph.input_shapes(id))
        parts = split_row(graph.channels.rows[id]["in"], lengths, n)
        for part, x, block in zip(parts, read.chunk(n, 1), weights[id].chunk(n), strict=True):
            for size in dict.fromkeys(size for _, size in part):
                columns, channels = _entries(part, lengths, start, size)
                yield _Reader(block, columns, channels, x, centred=intercept_name(graph, id) is not None)


def _entries(part: Axis, lengths: Mapping[int, int], start: Mapping[int, int], block: int) -> tuple[Tensor, Tensor]:
    """(positions, channel numbers) of those entries of a part that fill ``block`` positions each."""
    positions, channels, at = [torch.zeros(0, dtype=torch.int64)], [torch.zeros(0, dtype=torch.int64)], 0
    for cell, size in part:
        if size == block:
            positions.append(torch.arange(at, at + lengths[cell] * size))
            numbers = torch.arange(lengths[cell])
            channels.append(numbers + start[cell] if cell in start else torch.full_like(numbers, -1))
        at += lengths[cell] * size
    return torch.cat(positions), torch.cat(channels)


def kept_by_magnitude(network: Network, group: ChannelGroup, lengths: Mapping[int, int]) -> dict[int, Tensor]:
    """The channels for which the squared norms of their rows and columns have the largest products.

    Args:
        lengths: How many channels of each cell stay.

    Returns:
        Old indices of the channels that stay, by cell.
    """
    graph, old = network.graph, network.graph.channels.lengths
    rows, columns = ({cell: torch.zeros(old[cell], dtype=torch.float64) for cell in group.cells} for _ in range(2))
    for id in group.producers:
        axis = graph.params(id)["weight"].axes.index("out")
        weight = network.tensors[f"{id}.weight"].movedim(axis, 0)
        _spread(rows, graph.channels.rows[id]["out"], old, weight.flatten(1).square().sum(1))
    for id in group.readers:
        node, weight = graph.node(id), network.tensors[f"{id}.weight"]
        n = n_blocks(node, graph.input_shapes(id))
        parts = split_row(graph.channels.rows[id]["in"], old, n)
        for part, block in zip(parts, weight.chunk(n), strict=True):
            _spread(columns, part, old, block.transpose(0, 1).flatten(1).square().sum(1))
    scores = {cell: rows[cell] * columns[cell] for cell in group.cells}
    return {
        cell: scores[cell].argsort(descending=True, stable=True)[:length].sort().values
        for cell, length in lengths.items()
    }


def _spread(scores: dict[int, Tensor], row: Axis, lengths: Mapping[int, int], values: Tensor) -> None:
    """Add the values of entries along a row to the scores of their channels."""
    start = 0
    for cell, block in row:
        size = lengths[cell] * block
        if cell in scores:
            scores[cell] += values[start : start + size].double().view(-1, block).sum(1)
        start += size
