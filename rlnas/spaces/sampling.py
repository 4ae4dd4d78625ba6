"""Random walks through a space, on graphs alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rlnas.graph import Graph
from rlnas.spaces.building import BuildSpace
from rlnas.spaces.morph import MorphSpace
from rlnas.spaces.within import random_assignment


def random_episodes(space: MorphSpace | BuildSpace, *, seed: int) -> Iterator[tuple[Graph, ...]]:
    """Random episodes without end: each the graphs that it passes through and where it could have stopped.

    Each takes between no and ``max_steps`` edits, every number equally often; each edit is one of the legal ones. Where
    decisions make a network, each takes all of them, each choice one of the legal ones.
    """
    generator = np.random.default_rng(seed)
    while isinstance(space, BuildSpace):
        yield (space.networks.graph(random_assignment(space.within, generator)),)
    while True:
        graph, steps = space.start, int(generator.integers(space.max_steps + 1))
        graphs = [graph] if space.legal(graph, steps_left=space.max_steps).stop else []
        for step in range(space.max_steps):
            legal = space.legal(graph, steps_left=space.max_steps - step)
            if not legal.sites or (legal.stop and step >= steps):
                break
            sites = list(legal.sites.values())
            graph = space.edited(graph, sites[int(generator.integers(len(sites)))])
            if space.limits.met_by(graph):
                graphs.append(graph)
        if graphs:
            yield tuple(graphs)


def distinct_graphs(space: MorphSpace | BuildSpace, count: int, *, seed: int, patience: int = 50) -> list[Graph]:
    """So many different networks, each from where a random episode ended.

    Args:
        patience: Episodes for each network at most; a small space holds fewer networks than asked for.
    """
    found: dict[str, Graph] = {}
    for number, graphs in enumerate(random_episodes(space, seed=seed)):
        if len(found) >= count or number >= patience * count:
            break
        found.setdefault(graphs[-1].key, graphs[-1])
    return list(found.values())
