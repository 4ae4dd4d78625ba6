"""The networks that decisions make from the largest on, without training any."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Final

import numpy as np

from rlnas.errors import ConfigError, unknown_name
from rlnas.spaces.building import BuildSpace
from rlnas.spaces.decisions import Assignment
from rlnas.spaces.largest import COSTS
from rlnas.spaces.within import random_assignment

CLIMBS: Final = 8
"""Random networks from which it climbs."""


def dearest_first(space: BuildSpace, cost: str, *, seed: int = 0) -> Iterator[Assignment]:
    """Assignments whose distinct networks keep the limits, from the largest on; hyper-parameters as in the reference.

    It climbs to a largest network by changes of one decision at a time, from the reference network and random ones.
    Then it goes on with the largest neighbour of any that it has given, so a larger one may stay unseen behind smaller
    ones.

    Args:
        cost: ``"macs"`` or ``"n_params"``.
        seed: Decides between networks of the same size.

    Raises:
        ConfigError: If the cost is not known.
    """
    if cost not in COSTS:
        raise ConfigError(unknown_name("cost", cost, COSTS))
    return _dearest_first(space, cost, np.random.default_rng(seed))


def _dearest_first(space: BuildSpace, cost: str, generator: np.random.Generator) -> Iterator[Assignment]:
    networks, within = space.networks, space.within

    def size(assignment: Assignment) -> int:
        value: int = getattr(networks.graph(assignment), cost)
        return value

    def climbed(top: Assignment) -> Assignment:
        while higher := [a for a in _neighbours(space, top) if size(a) > size(top) and within.meets(a)]:
            top = max(higher, key=size)
        return top

    ends = [random_assignment(within, generator) for _ in range(CLIMBS)]
    seen = {climbed(end) for end in (within.target, *(end for end in ends if within.meets(end)))}
    waiting = [(-size(top), float(generator.random()), top) for top in sorted(seen)]
    heapq.heapify(waiting)
    given: set[str] = set()
    while waiting:
        _, _, assignment = heapq.heappop(waiting)
        key = networks.graph(assignment).key
        if key not in given:
            given.add(key)
            yield assignment
        for other in _neighbours(space, assignment):
            if other not in seen:
                seen.add(other)
                if within.meets(other):
                    heapq.heappush(waiting, (-size(other), float(generator.random()), other))


def _neighbours(space: BuildSpace, assignment: Assignment) -> Iterator[Assignment]:
    """What changes of one decision about the network lead to."""
    for slot in range(space.networks.n_architecture):
        for choice in range(space.networks.decisions.shape[slot]):
            if choice != assignment[slot]:
                yield (*assignment[:slot], choice, *assignment[slot + 1 :])
