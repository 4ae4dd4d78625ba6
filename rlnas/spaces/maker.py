"""What a space of decisions about networks is: a maker of graphs, and hyper-parameters of training beside it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final, Protocol

from rlnas.errors import SpaceError, unknown_name
from rlnas.graph import Graph
from rlnas.spaces.decisions import Assignment, Choice, Decision, DecisionSpace

REMEMBERED: Final = 4096
"""Graphs of each space that are kept."""


class Maker(Protocol):
    """Makes networks from decisions. It must be picklable, and equal choices must give equal graphs."""

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """What there is to decide, in the order in which it is decided."""
        ...

    @property
    def reference(self) -> Mapping[str, Choice]:
        """Choices that make a usual network of the space."""
        ...

    def graph(self, choices: Mapping[str, Choice]) -> Graph:
        """The network of these choices; every combination makes one."""
        ...


class NetworkSpace:
    """The decisions of a maker, and after them those on hyper-parameters of training.

    Args:
        maker: Makes the networks.
        training: Hyper-parameters that are decided too.
        start: What the reference network chooses, by decision, in the place of the maker's own and of the first of each
            hyper-parameter.

    Attributes:
        decisions: All decisions.
        reference: The reference network's choices.

    Raises:
        SpaceError: If two decisions have the same name, or the reference does not fit them.
    """

    def __init__(
        self, maker: Maker, *, training: Iterable[Decision] = (), start: Mapping[str, Choice] | None = None
    ) -> None:
        self.maker = maker
        self.training = tuple(training)
        self.decisions = DecisionSpace((*maker.decisions, *self.training))
        first = {decision.name: decision.choices[0] for decision in self.training}
        self.reference: Assignment = self.decisions.from_choices({**first, **maker.reference, **(start or {})})
        self._graphs: OrderedDict[Assignment, Graph] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_graphs": OrderedDict()}

    @cached_property
    def hyper_parameters(self) -> frozenset[str]:
        """Names of the decisions on training."""
        return frozenset(decision.name for decision in self.training)

    @cached_property
    def n_architecture(self) -> int:
        """Number of decisions that the network depends on: the first so many."""
        return len(self.decisions) - len(self.training)

    def graph(self, assignment: Sequence[int]) -> Graph:
        """The network of a whole assignment.

        Raises:
            SpaceError: If the maker fails, which it must not.
        """
        key = tuple(assignment[: self.n_architecture])
        graph = self._graphs.get(key)
        if graph is None:
            graph = self._graphs[key] = self.maker.graph(self.decisions.choices(key))
            if len(self._graphs) > REMEMBERED:
                self._graphs.popitem(last=False)
        else:
            self._graphs.move_to_end(key)
        return graph

    def settings(self, assignment: Sequence[int]) -> dict[str, Choice]:
        """The hyper-parameters that an assignment chooses."""
        chosen = assignment[self.n_architecture :]
        return {d.name: d.choices[choice] for d, choice in zip(self.training, chosen, strict=True)}


def check_counts(space: str, **counts: Any) -> None:
    """Raise if a size of a space is not a whole number of at least 1.

    Raises:
        SpaceError: Naming it.
    """
    for name, value in counts.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise SpaceError(f"space {space}: {name}={value!r} must be a whole number of at least 1")


def checked(space: str, name: str, values: Any, *, odd: bool = False) -> tuple[int, ...]:
    """A list of whole numbers of at least 1, each once.

    Args:
        odd: They must be odd, as kernels are that keep the size of a map.

    Raises:
        SpaceError: If it is none.
    """
    listed = (values,) if isinstance(values, int) else tuple(values)
    good = all(isinstance(v, int) and not isinstance(v, bool) and v >= 1 and (not odd or v % 2) for v in listed)
    if isinstance(values, str) or not listed or not good:
        raise SpaceError(f"space {space}: {name}={values!r} must be a list of {'odd ' if odd else ''}whole numbers")
    return listed


def checked_names(space: str, name: str, values: Any, known: Iterable[str]) -> tuple[str, ...]:
    """A list of names out of those that are known.

    Raises:
        SpaceError: If it is none.
    """
    if isinstance(values, str) or not isinstance(values, Iterable) or not (listed := tuple(values)):
        raise SpaceError(f"space {space}: {name}={values!r} must be a list of names")
    for one in listed:
        if one not in known:
            raise SpaceError(unknown_name(f"name in {name} of the space {space}:", str(one), known))
    return listed
