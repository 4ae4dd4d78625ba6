"""Which channels, or other units, are missed least by the layers that read them, and what these make do with."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from rlnas.graph import Graph
from rlnas.graph.cells import Axis
from rlnas.graph.ops import n_blocks
from rlnas.network import Network
from rlnas.operators.compensate import covariance
from rlnas.operators.elimination import Elimination, eliminate
from rlnas.operators.patches import check_finite, intercept_name, run, sample
from rlnas.operators.remap import split_row


@dataclass(frozen=True)
class Units:
    """What stays or goes as a whole.

    Attributes:
        of: For each cell that loses channels, the unit of each channel.
        pools: For each unit its pool.
        spare: How many units of each pool go.
    """

    of: Mapping[int, Tensor]
    pools: Tensor
    spare: tuple[int, ...]

    @classmethod
    def channels(cls, graph: Graph, cells: Iterable[int], lengths: Mapping[int, int]) -> Units:
        """Every channel by itself, so many going from each cell that the new lengths are left."""
        old, of, pools, n = graph.channels.lengths, {}, [], 0
        cells = tuple(cells)
        for k, cell in enumerate(cells):
            of[cell] = torch.arange(n, n + old[cell])
            pools += [k] * old[cell]
            n += old[cell]
        return cls(of, torch.tensor(pools), tuple(old[cell] - lengths.get(cell, old[cell]) for cell in cells))

    def kept(self, gone: Tensor) -> dict[int, Tensor]:
        """Old indices of the channels that stay, by cell."""
        return {cell: (~gone[units]).nonzero().flatten() for cell, units in self.of.items()}

    def lowest(self, scores: Tensor) -> Tensor:
        """True for the units that go by their scores alone: from each pool the lowest."""
        gone = torch.zeros(len(self.pools), dtype=torch.bool)
        for pool, n in enumerate(self.spare):
            mine = (self.pools == pool).nonzero().flatten()
            gone[mine[scores[mine].argsort(descending=True, stable=True)[len(mine) - n :]]] = True
        return gone


def drop_units(
    network: Network, units: Units, readers: Iterable[str], calibration: Tensor, *, scores: Tensor | None = None
) -> tuple[dict[int, Tensor], Network]:
    """Drop those units that score lowest, or else, one after the other, those missed least once readers are refitted.

    Returns:
        Old indices of the channels that stay, by cell; and the network with its readers refitted, place by place, so
        that they need no other.
    """
    readers = tuple(readers)
    layers = list(_layers(network, units, readers, calibration))
    fits = [layer.elimination for layer in layers]
    if scores is None:
        gone = eliminate(fits, units.pools, units.spare)
    else:
        gone = units.lowest(scores)
        for fit in fits:
            fit.drop(gone.nonzero().flatten())
    weights = {id: network.tensors[f"{id}.weight"].clone() for id in readers}
    for layer in layers:
        layer.write(weights[layer.id])
    refitted = Network(network.graph, {**network.tensors, **{f"{id}.weight": w for id, w in weights.items()}})
    return units.kept(gone), refitted


@dataclass(frozen=True)
class _Layer:
    """Some columns of a block of a layer that reads units.

    Attributes:
        id: The layer.
        block: Rows of the block in the layer's weight, outputs first.
        columns: Positions of the entries among the block's inputs; those of one entry, if several, side by side.
        entries: Number of entries.
        elimination: The fit of its weights.
    """

    id: str
    axis: int
    block: slice
    columns: Tensor
    entries: int
    elimination: Elimination

    def write(self, weight: Tensor) -> None:
        """Put the refitted weights into the layer's."""
        view = weight.movedim(self.axis, 1)[self.block]
        old = view[:, self.columns]
        new = self.elimination.weights().reshape(len(old), -1, self.entries).transpose(1, 2).reshape(old.shape)
        view[:, self.columns] = new.to(old.dtype)


def _layers(network: Network, units: Units, readers: tuple[str, ...], calibration: Tensor) -> Iterator[_Layer]:
    graph, lengths = network.graph, network.graph.channels.lengths
    for id, read in signals(network, readers, calibration).items():
        node, weight = graph.node(id), network.tensors[f"{id}.weight"]
        check_finite(id, weight)
        n, axis = n_blocks(node, graph.input_shapes(id)), graph.params(id)["weight"].axes.index("in")
        parts = split_row(graph.channels.rows[id]["in"], lengths, n)
        size = weight.movedim(axis, 1).shape[0] // n
        for k, (part, x) in enumerate(zip(parts, read.chunk(n, 1), strict=True)):
            if not any([cell in units.of for cell, _ in part]):
                continue
            block = slice(k * size, (k + 1) * size)
            for width in dict.fromkeys([width for cell, width in part if cell in units.of]):
                columns, numbers = _entries(part, lengths, units, width)
                gram, ridge = covariance(_by_entry(x[:, columns], len(numbers), centred=intercept_name(graph, id)))
                mine = weight.movedim(axis, 1)[block][:, columns]
                outputs = mine.reshape(len(mine), len(numbers), -1).transpose(1, 2).flatten(0, 1)
                yield _Layer(id, axis, block, columns, len(numbers), Elimination(gram, ridge, outputs, numbers))


def _by_entry(read: Tensor, entries: int, *, centred: str | None) -> Tensor:
    """The places of a map, flattened or not, are so many samples, and the taps of a kernel so many outputs."""
    values = read.reshape(len(read), entries, -1).transpose(1, 2).flatten(0, 1)
    values = values[sample(len(values), entries)]
    return values - values.double().mean(0).to(values.dtype) if centred else values


def _entries(part: Axis, lengths: Mapping[int, int], units: Units, block: int) -> tuple[Tensor, Tensor]:
    """(positions, numbers of units) of those entries of a part that fill ``block`` positions each."""
    positions, numbers, at = [], [], 0
    for cell, size in part:
        if size == block:
            positions.append(torch.arange(at, at + lengths[cell] * size))
            numbers.append(units.of.get(cell, torch.full((lengths[cell],), -1)))
        at += lengths[cell] * size
    return torch.cat(positions), torch.cat(numbers)


def signals(network: Network, ids: Iterable[str], inputs: Tensor) -> dict[str, Tensor]:
    """What some layers read at some places of some samples, shape (rows, channels).

    Raises:
        OperatorError: If a value is not finite.
    """
    graph = network.graph
    found: dict[str, list[Tensor]] = {id: [] for id in ids}
    chosen: dict[str, Tensor] = {}
    for id in found:
        shape = graph.input_shapes(id)[0]
        width = shape[-1 if graph.node(id).op == "linear" else 0]
        chosen[id] = sample(len(inputs) * math.prod(shape) // width, width)

    def take(id: str, read: Tensor, made: Tensor, first: int) -> None:
        flat = read.flatten(0, -2) if graph.node(id).op == "linear" else read.flatten(2).transpose(1, 2).flatten(0, 1)
        places, here = len(flat) // len(read), chosen[id]
        start = first * places
        found[id].append(flat[here[(here >= start) & (here < start + len(flat))] - start])

    run(network, found, inputs, take)
    joined = {id: torch.cat(parts) for id, parts in found.items()}
    for id, read in joined.items():
        check_finite(id, read)
    return joined
