"""What docs/evaluation.md says of scores and evaluators agrees with the registries."""

from __future__ import annotations

from rlnas.evaluation import EVALUATORS
from rlnas.evaluation.zero_cost import SCORES, VOTES
from tests.cli.running import REPOSITORY
from tests.docs.pages import section, table
from tests.evaluation.faults import tiny_task

PAGE = REPOSITORY / "docs" / "evaluation.md"


def test_it_names_every_evaluator() -> None:
    rows = {row[0]: row for row in table(section(PAGE, "Evaluators"))}
    assert list(rows) == list(EVALUATORS)
    assert all(make(tiny_task()).deterministic for make in EVALUATORS.values())


def test_it_names_every_score_and_its_passes() -> None:
    rows = {row[0]: row[2] for row in table(section(PAGE, "Zero-cost scores"))}
    assert rows == {name: ", ".join(sorted(score.passes)) or "none" for name, score in SCORES.items()}


def test_it_names_every_vote_and_what_it_joins() -> None:
    text = section(PAGE, "Zero-cost scores").split("`VOTES` join several")[1]
    for name, vote in VOTES.items():
        assert all(f"`{word}`" in text for word in (name, *vote.scores)), name
