"""The networks of a space of edits from the largest on, without training any."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Final

import numpy as np

from rlnas.errors import ConfigError, unknown_name
from rlnas.graph import Graph
from rlnas.spaces.morph import MorphSpace

COSTS: Final = ("macs", "n_params")
"""What size may mean."""
WIDTH: Final = 8
"""Networks of each number of edits from which the search goes on; four times as many when more are asked for."""
KEPT: Final = 250
"""Networks that are remembered for each of these."""

Entry = tuple[int, float, Graph, tuple[int, ...]]
"""Size, a random number for those of the same size, the network, and the actions that lead to it."""


def largest_first(space: MorphSpace, cost: str, *, seed: int = 0) -> Iterator[tuple[int, ...]]:
    """Actions of an episode without its STOP, for distinct networks that keep the limits, from the largest on.

    A beam search: after each edit it goes on from the largest networks only, so a larger one may stay unseen behind
    smaller ones. When all that it saw have been given, it begins again with a wider beam.

    Args:
        cost: ``"macs"`` or ``"n_params"``.
        seed: Decides between networks of the same size.

    Raises:
        ConfigError: If the cost is not known.
    """
    if cost not in COSTS:
        raise ConfigError(unknown_name("cost", cost, COSTS))
    return _largest_first(space, cost, np.random.default_rng(seed))


def _largest_first(space: MorphSpace, cost: str, generator: np.random.Generator) -> Iterator[tuple[int, ...]]:
    given: set[str] = set()
    width, cut = WIDTH, True
    while cut:
        seen, cut = _beam(space, cost, generator, width)
        for _, _, graph, actions in sorted(seen, key=_size, reverse=True):
            if graph.key not in given:
                given.add(graph.key)
                yield actions
        width *= 4


def _beam(space: MorphSpace, cost: str, generator: np.random.Generator, width: int) -> tuple[list[Entry], bool]:
    """The networks seen, and whether there may be others."""
    beam: list[Entry] = [(getattr(space.start, cost), 0.0, space.start, ())]
    seen = list(beam) if space.limits.met_by(space.start) else []
    cut = False
    for step in range(space.max_steps):
        found: list[Entry] = []
        for _, _, graph, actions in beam:
            for action, site in space.legal(graph, steps_left=space.max_steps - step).sites.items():
                after = space.edited(graph, site)
                found.append((getattr(after, cost), float(generator.random()), after, (*actions, action)))
        seen += [entry for entry in found if space.limits.met_by(entry[2])]
        cut = cut or len(seen) > KEPT * width
        seen = heapq.nlargest(KEPT * width, seen, key=_size)
        beam = []
        keys: set[str] = set()
        for entry in sorted(found, key=_size, reverse=True):
            if len(beam) == width:
                cut = True
                break
            if entry[2].key not in keys:
                keys.add(entry[2].key)
                beam.append(entry)
    return seen, cut


def _size(entry: Entry) -> tuple[int, float]:
    return entry[0], entry[1]
