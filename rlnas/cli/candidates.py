"""From the record of an evaluation back to its candidate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlnas.envs import MorphProblem
from rlnas.evaluation import Candidate
from rlnas.graph import Site


def candidate_of(evaluation: Mapping[str, Any], problem: MorphProblem) -> Candidate:
    """The candidate that an evaluation's record describes.

    Raises:
        StoreError: If its start network is missing.
    """
    edits = tuple(Site.from_json(site) for site in evaluation["edits"])
    start_id = evaluation.get("start_id", problem.first_start_id)
    graph = problem.service.starts.get(start_id).graph
    for site in edits:
        graph = problem.space.edited(graph, site)
    return Candidate(graph, start_id, edits)
