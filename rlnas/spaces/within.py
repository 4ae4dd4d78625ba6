"""Which choices leave a way to keep limits, in spaces too large to be counted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rlnas.errors import LimitError
from rlnas.graph import Graph
from rlnas.spaces.decisions import Assignment, DecisionSpace
from rlnas.spaces.limits import Limits, cost_of
from rlnas.spaces.maker import NetworkSpace

SAMPLES: Final = 128
"""Random assignments by which the share is estimated that keeps the limits."""
REMEMBERED: Final = 100_000
PASSES: Final = 8
TRIES: Final = 64
"""Networks that are made in search of a completion, at most."""
MANY: Final = 4
"""Of a decision with more choices, only likely ones are tried in search of a completion."""

Loss = Callable[[Graph], float]


class Within:
    """The assignments whose networks keep some limits, and which beginnings are known to lead to one.

    It carries a completion within the limits along: that of a beginning serves the next choice too, if the choice is
    the completion's own. For any other choice it tries the rest of that completion, of the cheapest network and of the
    dearest one; if none will do, it changes the nearest of them decision by decision to what is nearer, where there are
    many choices to what these have. So from every state that legal choices lead to there is a legal choice, up to a
    network within the limits. It may miss a way, where costs depend on decisions together, but names none that does not
    exist; where each cost grows with each decision on its own, it misses none of an upper limit. What it says of a
    beginning depends on nothing else.

    Args:
        networks: The space.
        limits: The limits.
        enforced: False lets every choice be legal.

    Raises:
        LimitError: If no network within the limits is found.
    """

    def __init__(self, networks: NetworkSpace, limits: Limits, *, enforced: bool = True) -> None:
        self.networks = networks
        self.limits = limits
        self._enforced = enforced and bool(limits.bounds)
        self._known: dict[Assignment, Assignment | None] = {}
        self._ends: list[Assignment] = []
        self.target = self._target()
        self.share = self._share()

    @property
    def space(self) -> DecisionSpace:
        """The decisions."""
        return self.networks.decisions

    def meets(self, assignment: Sequence[int]) -> bool:
        """True if a whole assignment meets the limits."""
        return not self.limits.bounds or self.limits.met_by(self.networks.graph(assignment))

    def open_after(self, begun: Assignment) -> NDArray[np.bool_]:
        """Which choices of the next decision can be completed within the limits, shape (its choices,)."""
        choices = self.space.shape[len(begun)]
        if not self._enforced:
            return np.ones(choices, dtype=np.bool_)
        return np.array([self._completion((*begun, choice)) is not None for choice in range(choices)])

    def share_after(self, begun: Assignment) -> float:
        """Share of the choices of the next decision that can."""
        return float(self.open_after(begun).mean())

    def steps_to(self, assignment: Assignment) -> int:
        """How many decisions are known to be enough to change until the limits are met."""
        if not self._enforced or self.meets(assignment):
            return 0
        return sum(a != b for a, b in zip(assignment, self.target, strict=True))

    def near(self, assignment: Assignment, slot: int, far: int) -> NDArray[np.bool_]:
        """After which choices of one decision the limits are at most so many changes away."""
        begun, rest = assignment[:slot], assignment[slot + 1 :]
        found = [self.steps_to((*begun, c, *rest)) <= far for c in range(self.space.shape[slot])]
        return np.array(found, dtype=np.bool_)

    def sample(self, generator: np.random.Generator, *, tries: int = 10_000) -> Assignment:
        """A random assignment that meets the limits, each as likely as any other.

        Raises:
            LimitError: If so many draws find none.
        """
        for _ in range(tries):
            if self.meets(drawn := self.space.sample(generator)):
                return drawn
        raise LimitError(f"none of {tries:,} random networks keeps {self.limits}: too few do for them to be drawn")

    # ----------------------------------------------------------------------------------------------------- completions

    def _completion(self, begun: Assignment) -> Assignment | None:
        """A whole assignment within the limits that begins so, if one is known."""
        known = next((k for k in range(len(begun), 0, -1) if begun[:k] in self._known), 0)
        found = self._known[begun[:known]] if known else self.target
        if len(self._known) + len(begun) > REMEMBERED:
            self._known.clear()
        for k in range(known + 1, len(begun) + 1):
            found = None if found is None else self._completed(begun[:k], found)
            self._known[begun[:k]] = found
        return found

    def _completed(self, begun: Assignment, before: Assignment) -> Assignment | None:
        place = len(begun)
        if before[place - 1] == begun[-1]:
            return before
        ways = [(*begun, *way[place:]) for way in (before, *self._ends)]
        for way in ways:
            if self.meets(way):
                return way
        nearest = self._improved(min(ways, key=self._outside), place, self._distance, enough=0.0, among=ways)
        return nearest if self.meets(nearest) else None

    def _target(self) -> Assignment:
        """A whole assignment within the limits: the reference if it will do."""
        start = self.networks.reference
        if self.meets(start):
            self._ends = self._extremes(start) if self._enforced else []
            return start
        self._ends = self._extremes(start)
        for way in (*self._ends, *(self._improved(end, 0, self._distance, enough=0.0) for end in (start, *self._ends))):
            if self.meets(way):
                return way
        nearest = min((start, *self._ends), key=self._outside)
        raise LimitError(
            f"no network of the space is known to keep {self.limits}; the nearest found has "
            f"{self.limits.costs(self.networks.graph(nearest))}"
        )

    def _extremes(self, start: Assignment) -> list[Assignment]:
        """The cheapest and the dearest network that changes of one decision at a time lead to, where limits ask."""

        def total(graph: Graph) -> float:
            costs = (cost_of(graph, bound.cost, self.limits.predict) for bound in self.limits.bounds)
            return sum(math.log(max(cost, 1e-300)) for cost in costs)

        signs = [1.0] if any(bound.high is not None for bound in self.limits.bounds) else []
        signs += [-1.0] if any(bound.low is not None for bound in self.limits.bounds) else []
        return [self._improved(start, 0, lambda graph, sign=sign: sign * total(graph)) for sign in signs]  # type: ignore[misc]

    def _improved(
        self,
        way: Assignment,
        free: int,
        loss: Loss,
        *,
        enough: float = -math.inf,
        among: Sequence[Assignment] | None = None,
    ) -> Assignment:
        """Change one decision after the other, from a place on, to what loses least, until nothing gets better.

        Args:
            enough: A loss with which it stops.
            among: Assignments whose choices are tried where there are many, in few tries; all choices by default.
        """
        best, left = loss(self.networks.graph(way)), math.inf if among is None else TRIES
        for _ in range(PASSES):
            before = best
            for slot in range(free, self.networks.n_architecture):
                tried: Iterable[int] = range(self.space.shape[slot])
                if among is not None and self.space.shape[slot] > MANY:
                    tried = dict.fromkeys(other[slot] for other in among)
                for choice in tried:
                    if choice == way[slot]:
                        continue
                    if not left:
                        return way
                    left -= 1
                    other = (*way[:slot], choice, *way[slot + 1 :])
                    if (found := loss(self.networks.graph(other))) < best:
                        way, best = other, found
                if best <= enough:
                    return way
            if best == before:
                break
        return way

    def _distance(self, graph: Graph) -> float:
        """How far outside the limits: the sum of the logarithms of all ratios above 1."""
        return _total(ratio for pair in self.limits.ratios(graph) for ratio in pair)

    def _outside(self, assignment: Assignment) -> float:
        return self._distance(self.networks.graph(assignment))

    def _share(self) -> float:
        """Share of all assignments that keep the limits, estimated; never 0, for there is one."""
        if not self.limits.bounds:
            return 1.0
        generator = np.random.default_rng(0)
        inside = sum(self.meets(self.space.sample(generator)) for _ in range(SAMPLES))
        return max(inside, 1) / SAMPLES


def random_assignment(within: Within, generator: np.random.Generator) -> Assignment:
    """One random legal choice after the other."""
    begun: Assignment = ()
    while len(begun) < len(within.space):
        begun += (int(generator.choice(np.flatnonzero(within.open_after(begun)))),)
    return begun


def _total(ratios: Iterable[float]) -> float:
    return sum(math.log(min(ratio, 1e300)) for ratio in ratios if ratio > 1.0)
