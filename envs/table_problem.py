"""A table as a problem: what is decided is looked up, nothing is trained and no graph is made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlnas.envs.decision_episodes import BuildEpisode, EditEpisode, Rules
from rlnas.envs.protocols import Late, Outcome
from rlnas.envs.shaping import Shaping, TablePotential, discount_of
from rlnas.errors import ConfigError, SpaceError, unknown_name
from rlnas.layout import Layout
from rlnas.rewards import COSTS
from rlnas.spaces import Choice, DecisionSpace, Feasible

FORMS: Final = ("build", "edit")
"""Kinds of episodes."""


class TableProblem:
    """Scores of all assignments of a space of decisions, in an array.

    Args:
        space: The decisions.
        scores: What each assignment is paid, of the space's shape or flat; not a number where that is not known.
        form: ``"build"`` takes one decision after the other, ``"edit"`` changes some of those of ``start``.
        allowed: True for the assignments that meet the limits; by default all do.
        limits: Those limits in words.
        start: Choices that episodes of the form ``"edit"`` begin with, by decision; by default the first of each. In
            the form ``"build"`` where every step is paid: what counts for decisions that are still open.
        max_steps: Changes in such an episode; by default as many as there are decisions.
        columns: What else is known of each assignment, such as ``accuracy`` or ``latency_ms``: goes into records.
        hidden: What only those may know who judge a search in the end, such as test accuracy: goes nowhere.
        step_reward: When an episode is paid, one of `rlnas.envs.shaping.STEP_REWARDS`: at its ``"end"``; or at every
            step too, by ``"cost"`` as ``cost_scores`` say, or by the scores of all that is met, which are looked up
            then, as if it were ``"evaluated"``. Returns stay what they are.
        cost_scores: What each assignment is worth by its cost alone, an array like ``scores``, for ``"cost"``.
        discount: That of the learner, with another ``step_reward`` than ``"end"``; 1 by default.

    Attributes:
        rules: What may be done in an episode.
        scores: The scores, an array over the space.
        columns: The columns, arrays over the space.
        hidden: The hidden columns, arrays over the space.
        queried: Numbers of the assignments that were looked up.
        shaping: What steps are paid beside the end; None if only the end is.

    Raises:
        ConfigError: If a name is not known, or an argument is missing, or given where it does nothing.
        LimitError: If nothing meets the limits, or not within ``max_steps`` changes of the start.
        SpaceError: If an array or the start does not fit the space.
    """

    def __init__(
        self,
        space: DecisionSpace,
        scores: ArrayLike,
        *,
        form: str = "build",
        allowed: ArrayLike | None = None,
        limits: str = "the limits",
        start: Mapping[str, Choice] | None = None,
        max_steps: int | None = None,
        columns: Mapping[str, ArrayLike] | None = None,
        hidden: Mapping[str, ArrayLike] | None = None,
        step_reward: str = "end",
        cost_scores: ArrayLike | None = None,
        discount: float | None = None,
    ) -> None:
        if form not in FORMS:
            raise ConfigError(unknown_name("form", form, FORMS))
        discount = discount_of(step_reward, discount)
        if form == "build" and (max_steps is not None or (start is not None and discount is None)):
            raise ConfigError("start and max_steps are for form='edit'; form='build' takes every decision once")
        if (cost_scores is not None) != (step_reward == "cost"):
            raise ConfigError("cost_scores and step_reward='cost' go together: what is worth what by its cost alone")
        if max_steps is not None and max_steps < 1:
            raise ConfigError(f"max_steps={max_steps}; an episode needs at least 1 change")
        self.form = form
        self.scores: NDArray[np.float64] = space.array(np.asarray(scores, dtype=np.float64), what="scores")
        if not np.isfinite(self.scores).any():
            raise SpaceError("none of the scores is a number")
        self.columns = {name: space.array(values, what=name) for name, values in (columns or {}).items()}
        self.hidden = {name: space.array(values, what=name) for name, values in (hidden or {}).items()}
        self.limits = limits
        begin = (0,) * len(space) if start is None else space.from_choices(start)
        steps = len(space) if max_steps is None else max_steps
        self.rules = Rules(Feasible(space, allowed), steps, () if form == "build" else begin)
        self.queried: set[int] = set()
        self.shaping: Shaping | None = None
        if discount is not None:
            values = self.scores
            if cost_scores is not None:
                values = space.array(np.asarray(cost_scores, dtype=np.float64), what="cost_scores")
            self.shaping = TablePotential(self, values, begin, queries=cost_scores is None, discount=discount)

    @property
    def space(self) -> DecisionSpace:
        """The decisions."""
        return self.rules.space

    @property
    def feasible(self) -> Feasible:
        """The assignments that meet the limits."""
        assert isinstance(self.rules.feasible, Feasible)
        return self.rules.feasible

    @property
    def layout(self) -> Layout:
        """Sizes of observations and actions."""
        return self.space.layout

    @property
    def max_steps(self) -> int:
        """Steps of an episode."""
        return self.rules.max_steps

    @cached_property
    def failure_reward(self) -> float:
        """Reward of what breaks a limit or has no score: 0, or the lowest score if that is below."""
        return min(0.0, float(np.nanmin(self.scores)))

    @cached_property
    def origin(self) -> str:
        """Hash of the decisions, the limits and where episodes begin."""
        words = [(d.name, d.choices) for d in self.space.decisions]
        rules = json.dumps([self.form, words, self.rules.start, self.max_steps])
        return hashlib.blake2b(rules.encode() + self.feasible.allowed.tobytes(), digest_size=16).hexdigest()

    def begin(self) -> BuildEpisode | EditEpisode:
        """A new episode."""
        return BuildEpisode(self.rules) if self.form == "build" else EditEpisode(self.rules)

    def score(self, episodes: Sequence[BuildEpisode | EditEpisode], *, seed: int) -> list[Outcome]:
        """Look up what ended episodes chose; the same whatever the seed."""
        return [self._outcome(episode, seed) for episode in episodes]

    def score_early(
        self, episodes: Sequence[BuildEpisode | EditEpisode], *, seed: int, lag: int
    ) -> tuple[list[Outcome | Late], list[tuple[int, Outcome]]]:
        """A table never lets anyone wait.

        Raises:
            ConfigError: Always.
        """
        raise ConfigError(f"lag={lag} does nothing where rewards are looked up in a table")

    def finish(self) -> list[Outcome]:
        """Nothing is late."""
        return []

    def close(self) -> None:
        """Nothing is open."""

    def _outcome(self, episode: BuildEpisode | EditEpisode, seed: int) -> Outcome:
        chosen = episode.assignment
        choices = self.space.choices(chosen)
        reward, status, looked_up = self.failure_reward, "infeasible", False
        reason: str | None = None
        known: dict[str, Any] = dict.fromkeys(("accuracy", *self.columns))
        if len(chosen) < len(self.space):
            reason = f"illegal actions left {len(self.space) - len(chosen)} decisions open"
        elif not self.feasible.meets(chosen):
            reason = f"does not meet {self.limits}"
        else:
            score, looked_up = float(self.scores[chosen]), True
            self.queried.add(self.space.number(chosen))
            status, reason = ("failed", "the table has no score for it") if np.isnan(score) else ("ok", None)
            reward = self.failure_reward if status == "failed" else score
            known |= {name: column[chosen].item() for name, column in self.columns.items()}
        key = ",".join(f"{name}={choice}" for name, choice in choices.items())
        record = {
            **known,
            "reward": reward,
            "status": status,
            "reason": reason,
            "cached": False,
            "graph_key": key,
            "cache_key": key if looked_up else "",
            "start_id": self.origin,
            "choices": choices,
            "operators": [f"{name}={choice}" for name, choice in choices.items()],
            "edits": [],
            "seed": seed,
        }
        vector = {"score": reward} | {f"minus_{c}": -known[c] for c in COSTS if known.get(c) is not None}
        info = {
            "evaluation": record,
            "reward_vector": vector if status == "ok" else None,
            "actions": [int(a) for a in episode.actions],
            "seed": seed,
        }
        return Outcome(reward, info)
