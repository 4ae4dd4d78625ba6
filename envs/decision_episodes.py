"""Episodes over a space of decisions: take one decision after the other, or change some of those that are taken."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rlnas.envs.decision_view import DecisionView
from rlnas.envs.protocols import Observation
from rlnas.errors import LimitError
from rlnas.graph import Graph
from rlnas.layout import STOP
from rlnas.spaces import Assignment, DecisionSpace, Feasible, Within


@dataclass(frozen=True)
class Legal:
    """What may be done in one state.

    Attributes:
        actions: Numbers of the legal actions, ascending.
    """

    actions: tuple[int, ...]


ONLY_STOP: Final = Legal((STOP,))


@dataclass(frozen=True)
class Rules:
    """What all episodes of a problem share.

    Attributes:
        feasible: The assignments that meet the limits: counted, or known by networks that were made.
        max_steps: Steps of an episode at most.
        start: Where episodes of the edit form begin.

    Raises:
        LimitError: If nothing within ``max_steps`` changes of the start meets the limits.
    """

    feasible: Feasible | Within
    max_steps: int
    start: Assignment = ()
    view: DecisionView = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "view", DecisionView(self.space, feasible=self.feasible.share))
        if self.start and (far := self.feasible.steps_to(self.start)) > self.max_steps:
            raise LimitError(
                f"nothing within {self.max_steps} changes of the start meets the limits; {far} are needed at least"
            )

    @property
    def space(self) -> DecisionSpace:
        """The decisions."""
        return self.feasible.space

    def graph(self, assignment: Assignment) -> Graph | None:
        """The network of a whole assignment; None where none is made, or decisions are open."""
        if len(assignment) < len(self.space) or not isinstance(self.feasible, Within):
            return None
        return self.feasible.networks.graph(assignment)


class BuildEpisode:
    """Every step takes the next decision; legal are the choices that leave a way to meet the limits.

    Attributes:
        actions: Every action taken, illegal ones included.
        assignment: What is chosen so far.
    """

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.actions: list[int] = []
        self.assignment: Assignment = ()
        self._legal: Legal | None = None

    @property
    def steps_left(self) -> int:
        """Steps until the episode ends."""
        return self.rules.max_steps - len(self.actions)

    @property
    def ended(self) -> bool:
        """True after as many steps as there are decisions."""
        return self.steps_left == 0

    def legal(self) -> Legal:
        """Choices of the next decision; STOP once the episode has ended."""
        if self._legal is None:
            first = 1 + len(self.assignment) * self.rules.space.layout.variants
            self._legal = ONLY_STOP if self.ended else Legal(tuple((first + self._open().nonzero()[0]).tolist()))
        return self._legal

    def step(self, action: int) -> bool:
        """Take the next decision; False, and nothing but a step used, if the action is illegal."""
        assert not self.ended, "the episode has ended; reset first"
        legal = action in self.legal().actions
        self.actions.append(action)
        self._legal = None
        if legal:
            self.assignment += (self.rules.space.layout.slot_and_variant(action)[1],)
        return legal

    def observe(self) -> Observation:
        """Observation of the present state."""
        place, space = len(self.assignment), self.rules.space
        open_ = place < len(space)
        return self.rules.view.observe(
            self.assignment,
            current=place if open_ else None,
            steps_left=self.steps_left / self.rules.max_steps,
            feasible_here=self.rules.feasible.share_after(self.assignment) if open_ else 1.0,
            legal=self.legal().actions,
        )

    @property
    def graph(self) -> Graph | None:
        """The network that is decided; None where none is made, or decisions are open."""
        return self.rules.graph(self.assignment)

    def _open(self) -> NDArray[np.bool_]:
        return self.rules.feasible.open_after(self.assignment)


class EditEpisode:
    """Every step changes one decision of a whole assignment, or stops.

    From an assignment that meets the limits, the changes are legal that keep them. From one that does not, those are
    after which enough steps are left to meet them, and stopping is not.

    Attributes:
        actions: Every action taken, illegal ones and STOP included.
        assignment: What is chosen now.
        stopped: True after STOP.
    """

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.actions: list[int] = []
        self.assignment: Assignment = rules.start
        self.stopped = False
        self._legal: Legal | None = None

    @property
    def steps_left(self) -> int:
        """Steps until the episode ends by itself."""
        return self.rules.max_steps - len(self.actions)

    @property
    def ended(self) -> bool:
        """True after STOP or the last step."""
        return self.stopped or self.steps_left == 0

    def legal(self) -> Legal:
        """STOP and the changes; only STOP once it has been taken."""
        if self._legal is None:
            self._legal = ONLY_STOP if self.ended else Legal(self._changes())
        return self._legal

    def step(self, action: int) -> bool:
        """Change a decision, or stop; False, and nothing but a step used, if the action is illegal."""
        assert self.steps_left > 0, "the episode has ended; reset first"
        legal = action in self.legal().actions
        self.actions.append(action)
        self._legal = None
        if legal and action == STOP:
            self.stopped = True
        elif legal:
            slot, choice = self.rules.space.layout.slot_and_variant(action)
            self.assignment = (*self.assignment[:slot], choice, *self.assignment[slot + 1 :])
        return legal

    def observe(self) -> Observation:
        """Observation of the present state."""
        legal = self.legal().actions
        changes = sum(self.rules.space.shape) - len(self.rules.space)
        return self.rules.view.observe(
            self.assignment,
            current=None,
            steps_left=self.steps_left / self.rules.max_steps,
            feasible_here=sum(action != STOP for action in legal) / max(1, changes),
            legal=legal,
        )

    @property
    def graph(self) -> Graph | None:
        """The network that is decided; None where none is made."""
        return self.rules.graph(self.assignment)

    def _changes(self) -> tuple[int, ...]:
        variants, feasible = self.rules.space.layout.variants, self.rules.feasible
        now = self.assignment
        inside = feasible.steps_to(now) == 0
        far = 0 if inside else self.steps_left - 1
        found = [STOP] if inside else []
        for slot, choice in enumerate(now):
            near = feasible.near(now, slot, far)
            near[choice] = False
            found += (1 + slot * variants + near.nonzero()[0]).tolist()
        return tuple(found) or (STOP,)
