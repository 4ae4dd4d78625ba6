"""Zero-cost scores: what can be said of a network at initialization. A new one is a function and a line here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from rlnas.errors import ConfigError, unknown_name
from rlnas.evaluation.zero_cost.az_nas import expressivity, progressivity, trainability
from rlnas.evaluation.zero_cost.gradients import grad_norm, jacob_cov, snip, synflow
from rlnas.evaluation.zero_cost.probe import PASSES, Probe
from rlnas.evaluation.zero_cost.ranks import VOTES, Vote
from rlnas.evaluation.zero_cost.regions import naswot
from rlnas.evaluation.zero_cost.score import Score

SCORES: Final[dict[str, Score]] = {
    "n_params": Score(lambda probe: float(probe.graph.n_params), varies=False),
    "macs": Score(lambda probe: float(probe.graph.macs), varies=False),
    "synflow": Score(synflow, frozenset({"one sample"})),
    "naswot": Score(naswot, frozenset({"activations"})),
    "jacob_cov": Score(jacob_cov, frozenset({"input gradients"})),
    "grad_norm": Score(grad_norm, frozenset({"gradients"})),
    "snip": Score(snip, frozenset({"gradients"})),
    "expressivity": Score(expressivity, frozenset({"blocks"})),
    "progressivity": Score(progressivity, frozenset({"blocks"})),
    "trainability": Score(trainability, frozenset({"blocks"})),
}
"""All scores by name; high is good."""


def needed_scores(names: Sequence[str]) -> tuple[str, ...]:
    """Names of single scores, those of votes in the place of the votes.

    Raises:
        ConfigError: If a name is neither a score's nor a vote's.
    """
    found: dict[str, None] = {}
    for name in names:
        if name not in SCORES and name not in VOTES:
            raise ConfigError(unknown_name("score", name, [*SCORES, *VOTES]))
        found |= dict.fromkeys(VOTES[name].scores if name in VOTES else (name,))
    return tuple(found)


def standings(name: str, found: Sequence[Mapping[str, float] | None]) -> list[float]:
    """One number for each of some networks, to be compared within this batch: high is good.

    Args:
        name: A score or a vote.
        found: The scores of each network; None where they are not defined, which is worse than any.

    Raises:
        ConfigError: If there is no such score or vote.
    """
    names = needed_scores([name])
    known = [row for row in found if row is not None]
    columns = [[row[n] for row in known] for n in names]
    values = iter(VOTES[name].combine(columns) if name in VOTES and known else columns[0])
    return [float("-inf") if row is None else next(values) for row in found]


__all__ = [
    "PASSES",
    "SCORES",
    "VOTES",
    "Probe",
    "Score",
    "Vote",
    "needed_scores",
    "standings",
]
