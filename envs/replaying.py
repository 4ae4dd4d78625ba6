"""Play an episode again from its actions, without evaluating anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlnas.envs.protocols import Episode, Problem
from rlnas.errors import SpaceError


def replayed(problem: Problem, actions: Sequence[Any]) -> Episode:
    """The episode that these actions make.

    Raises:
        SpaceError: If there is no such action, or there are more than an episode has.
    """
    episode = problem.begin()
    n_actions = problem.layout.n_actions
    for number, action in enumerate(actions, 1):
        if isinstance(action, bool) or not isinstance(action, int) or not 0 <= action < n_actions:
            raise SpaceError(f"action {number} is {action!r}; it must be a whole number from 0 to {n_actions - 1}")
        if not episode.steps_left:
            raise SpaceError(f"the episode has ended before action {number}; it has {problem.max_steps} at most")
        episode.step(action)
    return episode
