"""The pages on decisions and on NAS-Bench-201 agree with the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rlnas.envs import TableProblem, make_nas_bench_201
from rlnas.layout import DECISION_CONTEXT, DECISION_FEATURES
from tests.cli.running import REPOSITORY
from tests.docs.pages import section, table
from tests.docs.test_facts import ENVIRONMENT, defaults

DECISIONS, CELLS = (REPOSITORY / "docs" / f"{name}.md" for name in ("decisions", "nas_bench_201"))


def test_every_feature_is_named() -> None:
    nodes, context = section(DECISIONS, "Observation Space").split("`rlnas.layout.DECISION_CONTEXT`")
    assert all(f"`{name}`" in nodes for name in DECISION_FEATURES)
    assert f"decisions \u00d7 ({len(DECISION_FEATURES)} + variants)" in nodes
    assert [row[0] for row in table(context)] == list(DECISION_CONTEXT)


@pytest.mark.parametrize(
    ("page", "function", "given"),
    [(DECISIONS, TableProblem.__init__, ("self", "space", "scores")), (CELLS, make_nas_bench_201, ())],
    ids=["decisions", "nas_bench_201"],
)
def test_every_argument_and_default_is_named(page: Path, function: object, given: tuple[str, ...]) -> None:
    rows = [row for row in table(section(page, "Arguments")) if row[1]]
    said = {n: v.strip('"') for row in rows for n, v in zip(row[0].split(", "), row[1].split(", "), strict=True)}
    assert said == defaults(function, without=given)


@pytest.mark.parametrize("page", [DECISIONS, CELLS], ids=["decisions", "nas_bench_201"])
def test_the_headings_are_those_of_the_other_environment(page: Path) -> None:
    found, wanted = (re.findall(r"^## (.*)$", p.read_text(), re.MULTILINE) for p in (page, ENVIRONMENT))
    assert found[:8] == wanted[:8]
