"""Take channels out of a network, with what they carried moved to channels that stay or into biases."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rlnas.graph import Graph
from rlnas.graph.channels import ChannelGroup
from rlnas.graph.edit import resize
from rlnas.network import Network
from rlnas.operators.remap import axis_index, remap
from rlnas.operators.simplify.base import Tensors
from rlnas.operators.simplify.layers import bias_of, by_blocks, from_blocks, slack_of

Gone = Mapping[int, Mapping[int, int]]
"""For each cell the channels that go, and the channel of the same cell that each is added to; itself if none."""
Stay = Iterable[tuple[int, Sequence[int]]]
"""For some cells the channels that stay."""


class Move(NamedTuple):
    """What a reader does about one place of its input that goes.

    Attributes:
        reader: The layer.
        place: The place on the axis that it reads.
        to: The place whose column gets this one's; -1 if the value there is constant.
        factor: What the column is multiplied by first: the ratio of the two channels, or the constant.
    """

    reader: str
    place: int
    to: int
    factor: float


def readers_of(graph: Graph, cell: int, name: str = "in") -> Iterator[tuple[str, Tensor]]:
    """All nodes with a cell on an axis of their tensors, and the places (channels, n) of its channels there.

    One that reads the cell several times is given as often.
    """
    lengths = graph.channels.lengths
    for id in graph.order:
        start = 0
        for other, block in graph.channels.rows[id].get(name, ()):
            if other == cell:
                yield id, start + torch.arange(lengths[cell] * block).view(-1, block)
            start += lengths[other] * block


def taken_out(graph: Graph, tensors: Tensors, stay: Stay, moves: Iterable[Move]) -> tuple[Graph, Tensors]:
    """The graph and its tensors after some moves, with only some channels left in some cells."""
    moved, biases = dict(tensors), {}
    by_reader: dict[str, list[Move]] = {}
    for move in moves:
        by_reader.setdefault(move.reader, []).append(move)
    for id, asked in by_reader.items():
        moved[f"{id}.weight"], added = _moved(graph, tensors, id, asked)
        if any(move.to < 0 for move in asked):
            biases[id] = (bias_of(graph.node(id), tensors) + added).to(moved[f"{id}.weight"].dtype)
    channels, maps = graph.channels, {cell: torch.tensor(channels) for cell, channels in stay}
    values = remap(Network(graph, moved), maps, noise=0.0, generator=torch.Generator())
    for id, bias in biases.items():
        values[f"{id}.bias"] = bias[axis_index(channels.rows[id]["out"], channels.lengths, maps)]
    after = resize(graph, channels, {cell: len(stay) for cell, stay in maps.items()})
    nodes = [node.replace(bias=True) if node.id in biases else node for node in after.sorted_nodes]
    return Graph(tuple(nodes), after.output), values


def _moved(graph: Graph, tensors: Tensors, id: str, moves: Sequence[Move]) -> tuple[Tensor, Tensor]:
    """A layer's weight with columns added to others, and what is to be added to its bias."""
    node, weight = graph.node(id), tensors[f"{id}.weight"]
    blocks = by_blocks(node, tensors)
    groups, outputs, width, _ = blocks.shape
    columns = blocks.transpose(1, 2).flatten(0, 1)
    places, to = (torch.tensor([move[k] for move in moves]) for k in (1, 2))
    scaled = columns[places] * torch.tensor([move.factor for move in moves], dtype=torch.float64).view(-1, 1, 1)
    constant = to < 0
    made = columns.index_add(0, to[~constant], scaled[~constant])
    size = columns.abs().index_add(0, to[~constant], scaled[~constant].abs())
    joined = torch.zeros(len(made), 1, 1, dtype=torch.bool).index_fill_(0, to[~constant], True)
    # What cancels out leaves rounding behind.
    made.masked_fill_(joined & (made.abs() <= slack_of(weight.dtype) * size.amax((1, 2), keepdim=True)), 0.0)
    added = blocks.new_zeros(groups, outputs).index_add_(0, places[constant] // width, scaled[constant].sum(2))
    return from_blocks(node, made.view(groups, width, outputs, -1).transpose(1, 2), weight), added.flatten()


def balanced(graph: Graph, group: ChannelGroup, gone: Gone) -> Gone | None:
    """As many of these channels as can go with the blocks of grouped convolutions equally long; None if none can."""
    lengths, going = graph.channels.lengths, {cell: dict(channels) for cell, channels in gone.items()}
    for cell, channels in going.items():
        if len(channels) == lengths[cell]:  # something has to be there
            del channels[min(channels)]

    def length(part: Sequence[int]) -> int:
        return sum(lengths[cell] - len(going.get(cell, ())) for cell in part)

    changed = True
    while changed:
        changed = False
        for partition in group.parts:
            wanted = max(map(length, partition))
            for part in partition:
                while length(part) < wanted:
                    fullest = max(part, key=lambda cell: len(going.get(cell, ())))
                    if not going.get(fullest):
                        return None
                    going[fullest].popitem()
                    changed = True
    return going if any(going.values()) else None


def cost_saved(graph: Graph, stay: Stay, moves: Iterable[Move]) -> tuple[int, int]:
    """Parameters and multiply-accumulates saved; layers without a bias may need one."""
    after = resize(graph, graph.channels, {cell: len(channels) for cell, channels in stay})
    biased = {move.reader for move in moves if move.to < 0 and not graph.node(move.reader)["bias"]}
    added = sum(after.shapes[id][after.facts[id].flow.axis] for id in biased)
    return graph.n_params - after.n_params - added, graph.macs - after.macs
