"""Spaces of decisions: named choices, all assignments counted, and which beginnings can still end within a limit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlnas.errors import LimitError, SpaceError, unknown_name
from rlnas.layout import DECISION_CONTEXT, Layout, decision_features

Assignment = tuple[int, ...]
"""The number of what is chosen for each decision."""
Choice = str | int | float

LARGEST: Final = 20_000_000
"""Assignments of the largest space that is enumerated."""


@dataclass(frozen=True)
class Decision:
    """One thing to be decided.

    Attributes:
        name: Its name.
        choices: What there is to choose from.

    Raises:
        SpaceError: If there is nothing to choose from, or two choices are the same.
    """

    name: str
    choices: tuple[Choice, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "choices", tuple(self.choices))
        if not self.choices or len(set(self.choices)) < len(self.choices):
            raise SpaceError(f"the decision {self.name!r} has no choices, or names one twice: {list(self.choices)}")

    def number(self, choice: Choice) -> int:
        """Number of a choice.

        Raises:
            SpaceError: If there is none like it.
        """
        if choice not in self.choices:
            raise SpaceError(unknown_name(f"choice of {self.name!r}", str(choice), map(str, self.choices)))
        return self.choices.index(choice)


@dataclass(frozen=True)
class DecisionSpace:
    """All ways to take a list of decisions.

    An array over the space has one axis for each decision; flat, assignments are numbered row by row, the last decision
    changing fastest.

    Attributes:
        decisions: In the order in which they are taken.

    Raises:
        SpaceError: If there is no decision, or two have the same name.
    """

    decisions: tuple[Decision, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "decisions", tuple(self.decisions))
        names = [decision.name for decision in self.decisions]
        if not names or len(set(names)) < len(names):
            raise SpaceError(f"the space has no decisions, or two of the same name: {names}")

    @classmethod
    def of(cls, choices: Mapping[str, Sequence[Choice]]) -> DecisionSpace:
        """A space from the choices of each decision by name.

        Raises:
            SpaceError: If there is nothing to decide.
        """
        return cls(tuple(Decision(name, tuple(given)) for name, given in choices.items()))

    def __len__(self) -> int:
        return len(self.decisions)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Number of choices of each decision."""
        return tuple(len(decision.choices) for decision in self.decisions)

    @cached_property
    def size(self) -> int:
        """Number of assignments."""
        return math.prod(self.shape)

    @cached_property
    def layout(self) -> Layout:
        """Sizes of observations and actions: a slot for each decision."""
        variants = max(self.shape)
        choices = [[str(d.choices[v]) for d in self.decisions if v < len(d.choices)] for v in range(variants)]
        return Layout(
            slots=len(self),
            variants=variants,
            n_features=len(decision_features(variants)),
            n_context=len(DECISION_CONTEXT),
            names=tuple(" or ".join(dict.fromkeys(column)) for column in choices),
        )

    def completions(self, begun: int) -> int:
        """Number of assignments that agree on the first so many decisions."""
        return math.prod(self.shape[begun:])

    def number(self, assignment: Sequence[int]) -> int:
        """Number of an assignment, from 0 to ``size - 1``."""
        number = 0
        for choice, choices in zip(assignment, self.shape, strict=True):
            assert 0 <= choice < choices
            number = number * choices + choice
        return number

    def assignment(self, number: int) -> Assignment:
        """Inverse of `number`."""
        assert 0 <= number < self.size
        found = []
        for choices in reversed(self.shape):
            number, choice = divmod(number, choices)
            found.append(choice)
        return tuple(reversed(found))

    def choices(self, assignment: Sequence[int]) -> dict[str, Choice]:
        """What is chosen, by the names of the decisions; an assignment of the first few decisions will do."""
        return {d.name: d.choices[choice] for d, choice in zip(self.decisions, assignment, strict=False)}

    def from_choices(self, choices: Mapping[str, Choice]) -> Assignment:
        """Inverse of `choices` for a whole assignment.

        Raises:
            SpaceError: If a decision is missing or unknown, or what is chosen is not among its choices.
        """
        names = [decision.name for decision in self.decisions]
        for name in choices:
            if name not in names:
                raise SpaceError(unknown_name("decision", name, names))
        for name in names:
            if name not in choices:
                raise SpaceError(f"nothing is chosen for {name!r}")
        return tuple(decision.number(choices[decision.name]) for decision in self.decisions)

    def sample(self, generator: np.random.Generator) -> Assignment:
        """A random assignment, each as likely as any other; under limits see `Feasible.sample`."""
        return tuple(int(generator.integers(choices)) for choices in self.shape)

    def array(self, values: ArrayLike, *, what: str) -> NDArray[Any]:
        """Values of all assignments as an array over the space that cannot be written to.

        Args:
            values: Of the shape of the space, or flat.
            what: What they are, for the error.

        Raises:
            SpaceError: If there is not one for each assignment, or the space is too large to be enumerated.
        """
        if self.size > LARGEST:
            raise SpaceError(f"a space of {self.size:,} assignments is too large to be enumerated; {LARGEST:,} at most")
        array = values if isinstance(values, np.ndarray) and not values.flags.writeable else np.array(values)
        if array.shape not in (self.shape, (self.size,)):
            raise SpaceError(
                f"{what}: an array of shape {array.shape} does not fit a space of shape {self.shape}; give that shape, "
                f"or {self.size} values with the last decision changing fastest"
            )
        array = array.reshape(self.shape)  # a view, whose flags are its own
        array.flags.writeable = False
        return array


class Feasible:
    """The assignments that meet some limits, and which beginnings of an assignment can still be completed to one.

    Everything is counted, by summing a boolean array over the axes of the decisions that are still open; nothing is
    estimated.

    Args:
        space: The space.
        allowed: True for the assignments that meet the limits; by default all do.

    Attributes:
        allowed: That array, over the space.
        count: How many there are.

    Raises:
        LimitError: If there is none.
        SpaceError: If the array does not fit the space, or that is too large to be enumerated.
    """

    def __init__(self, space: DecisionSpace, allowed: ArrayLike | None = None) -> None:
        self.space = space
        given = np.ones(space.shape, dtype=np.bool_) if allowed is None else np.asarray(allowed, dtype=np.bool_)
        self.allowed: NDArray[np.bool_] = space.array(given, what="the assignments that meet the limits")
        counts: list[NDArray[np.int64]] = [self.allowed.astype(np.int64)]
        for _ in space.decisions:
            counts.append(counts[-1].sum(axis=-1))
        self._counts = counts[::-1]  # [k]: completions of each beginning of k choices, over the first k axes
        self.count = int(self._counts[0])
        if self.count == 0:
            raise LimitError(f"none of the {space.size:,} assignments meets the limits")

    @property
    def share(self) -> float:
        """Share of all assignments that meet the limits."""
        return self.count / self.space.size

    def meets(self, assignment: Sequence[int]) -> bool:
        """True if a whole assignment meets the limits."""
        return bool(self.allowed[tuple(assignment)])

    def completions(self, begun: Sequence[int]) -> int:
        """How many assignments that begin so meet the limits."""
        return int(self._counts[len(begun)][tuple(begun)])

    def completions_after(self, begun: Sequence[int]) -> NDArray[np.int64]:
        """The same after each choice of the next decision, shape (its choices,)."""
        counts: NDArray[np.int64] = self._counts[len(begun) + 1][tuple(begun)]
        return counts

    def open_after(self, begun: Sequence[int]) -> NDArray[np.bool_]:
        """Which choices of the next decision can be completed within the limits, shape (its choices,)."""
        return self.completions_after(begun) > 0

    def share_after(self, begun: Sequence[int]) -> float:
        """Share of the assignments that begin so and meet the limits."""
        return float(self.completions_after(begun).sum() / self.space.completions(len(begun)))

    def steps_to(self, assignment: Assignment) -> int:
        """How many decisions at least have to change until the limits are met."""
        return int(self.distance[assignment])

    def near(self, assignment: Assignment, slot: int, far: int) -> NDArray[np.bool_]:
        """After which choices of one decision the limits are at most so many changes away."""
        place: tuple[Any, ...] = (*assignment[:slot], slice(None), *assignment[slot + 1 :])
        found: NDArray[np.bool_] = self.distance[place] <= far
        return found

    @cached_property
    def distance(self) -> NDArray[np.int8]:
        """How many decisions at least have to change until an assignment meets the limits; an array over the space."""
        found = np.where(self.allowed, 0, len(self.space)).astype(np.int8)
        for axis in range(len(self.space)):
            found = np.minimum(found, found.min(axis=axis, keepdims=True) + np.int8(1))
        return found

    def sample(self, generator: np.random.Generator) -> Assignment:
        """A random assignment that meets the limits, each as likely as any other."""
        begun: list[int] = []
        rank = int(generator.integers(self.count))
        while len(begun) < len(self.space):
            edges = np.cumsum(self.completions_after(begun))
            choice = int(np.searchsorted(edges, rank, side="right"))
            rank -= int(edges[choice - 1]) if choice else 0
            begun.append(choice)
        return tuple(begun)
