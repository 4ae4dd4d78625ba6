"""Small changes of an episode: what local search and evolution try next."""

from __future__ import annotations

import numpy as np

from rlnas.controllers.search import Masks, Played
from rlnas.layout import STOP

Plan = tuple[int | None, ...] | None
"""Actions to take, None for a random edit, STOP after them; or no plan, for an episode of random legal actions."""


def neighbours(episode: Played) -> dict[str, list[tuple[int, ...]]]:
    """The sequences of edits that differ from an episode's by one change, by kind of change.

    ``replace`` puts another edit that was legal at that step in the place of one; ``append`` adds one where the episode
    stopped; ``delete`` leaves one out. Episodes that never could stop, which make one decision after another, have only
    replacements. Edits after the change may have become illegal: whoever plays the sequence has to replace these.
    """
    edits = episode.edits
    found: dict[str, list[tuple[int, ...]]] = {"replace": [], "append": [], "delete": []}
    for step, edit in enumerate(edits):
        others = (a for a in episode.legal[step] if a not in (STOP, edit))
        found["replace"] += [(*edits[:step], other, *edits[step + 1 :]) for other in others]
    if len(edits) < len(episode.actions):
        found["append"] = [(*edits, action) for action in episode.legal[len(edits)] if action != STOP]
    if any(STOP in legal for legal in episode.legal):
        found["delete"] = [(*edits[:step], *edits[step + 1 :]) for step in range(len(edits))]
    return {kind: list(dict.fromkeys(plans)) for kind, plans in found.items() if plans}


def one_of(plans: dict[str, list[tuple[int, ...]]], generator: np.random.Generator) -> tuple[int, ...]:
    """A random one: each kind of change is as likely as any other, and each plan within a kind."""
    kinds = [kind for kind, choices in plans.items() if choices]
    choices = plans[kinds[generator.integers(len(kinds))]]
    return choices[generator.integers(len(choices))]


def next_action(plan: Plan, step: int, mask: Masks, generator: np.random.Generator) -> int:
    """The planned action where it is legal, else a random legal edit, or STOP where there is none."""
    if plan is None:
        return int(generator.choice(np.flatnonzero(mask)))
    action = plan[step] if step < len(plan) else STOP
    if action is not None and mask[action]:
        return action
    edits = np.flatnonzero(mask)
    edits = edits[edits != STOP]
    return int(generator.choice(edits)) if edits.size else STOP
