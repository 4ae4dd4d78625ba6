"""The page on decisions agrees with the code."""

from __future__ import annotations

import re

from rlnas.envs import TableProblem
from rlnas.layout import DECISION_CONTEXT, DECISION_FEATURES
from tests.cli.running import REPOSITORY
from tests.docs.pages import section, table
from tests.docs.test_facts import ENVIRONMENT, defaults

PAGE = REPOSITORY / "docs" / "decisions.md"


def test_every_feature_is_named() -> None:
    nodes, context = section(PAGE, "Observation Space").split("`rlnas.layout.DECISION_CONTEXT`")
    assert all(f"`{name}`" in nodes for name in DECISION_FEATURES)
    assert f"decisions \u00d7 ({len(DECISION_FEATURES)} + variants)" in nodes
    assert [row[0] for row in table(context)] == list(DECISION_CONTEXT)


def test_every_argument_and_default_is_named() -> None:
    rows = [row for row in table(section(PAGE, "Arguments")) if row[1]]
    said = {n: v.strip('"') for row in rows for n, v in zip(row[0].split(", "), row[1].split(", "), strict=True)}
    assert said == defaults(TableProblem.__init__, without=("self", "space", "scores"))


def test_the_headings_are_those_of_the_other_environment() -> None:
    found, wanted = (re.findall(r"^## (.*)$", page.read_text(), re.MULTILINE) for page in (PAGE, ENVIRONMENT))
    assert found[:8] == wanted[:8]
