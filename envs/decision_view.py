"""From the choices made so far to the arrays that a policy sees; `rlnas.layout` says what each entry means."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from rlnas.envs.protocols import Observation
from rlnas.layout import DECISION_CONTEXT, DECISION_FEATURES, WAVES
from rlnas.spaces import DecisionSpace

DECIDED, CURRENT, CHOICE = (
    DECISION_FEATURES.index("is_decided"),
    DECISION_FEATURES.index("is_current"),
    len(DECISION_FEATURES),
)


class DecisionView:
    """Makes observations of one space of decisions.

    Args:
        space: The space.
        feasible: Share of its assignments that meet the limits.
    """

    def __init__(self, space: DecisionSpace, *, feasible: float) -> None:
        self.layout = space.layout
        self.feasible = feasible
        places = np.arange(len(space)) / max(1, len(space) - 1)
        self._empty = np.zeros((len(space), self.layout.n_features), dtype=np.float32)
        self._empty[:, DECISION_FEATURES.index("place")] = places
        for turns in WAVES:
            for wave, function in (("sin", np.sin), ("cos", np.cos)):
                column = DECISION_FEATURES.index(f"place_{wave}_{turns:g}")
                self._empty[:, column] = function(2 * math.pi * turns * places)
        self._mask = np.ones(len(space), dtype=np.float32)

    def observe(
        self,
        chosen: Sequence[int],
        *,
        current: int | None,
        steps_left: float,
        feasible_here: float,
        legal: Iterable[int],
    ) -> Observation:
        """A fresh observation.

        Args:
            chosen: Choices of the first few decisions, or of all.
            current: Number of the decision to be taken now; None if none has to be.
            steps_left: Share of the episode's steps that are left.
            feasible_here: What is left open by the limits from here on, as a share.
            legal: Numbers of the legal actions.
        """
        nodes = self._empty.copy()
        for slot, choice in enumerate(chosen):
            nodes[slot, DECIDED] = 1.0
            nodes[slot, CHOICE + choice] = 1.0
        if current is not None:
            nodes[current, CURRENT] = 1.0
        mask = np.zeros(self.layout.n_actions, dtype=np.int8)
        mask[list(legal)] = 1
        return {
            "nodes": nodes.reshape(-1),
            "node_mask": self._mask.copy(),
            "context": _context(steps_left, len(chosen) / len(self._mask), self.feasible, feasible_here),
            "action_mask": mask,
        }


def _context(steps_left: float, decided: float, feasible: float, feasible_here: float) -> NDArray[np.float32]:
    """The entries in the order of `DECISION_CONTEXT`."""
    context = np.array((steps_left, decided, feasible, feasible_here), dtype=np.float32)
    assert len(context) == len(DECISION_CONTEXT)
    return context
