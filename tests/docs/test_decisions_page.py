"""The pages on decisions and on NAS-Bench-201 agree with the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rlnas.envs import TableProblem, make_nas_bench_201, make_networks
from rlnas.layout import DECISION_CONTEXT, DECISION_FEATURES
from rlnas.spaces import MAKERS
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


def test_every_maker_is_named_with_its_sizes() -> None:
    networks = section(DECISIONS, "Networks from decisions")
    rows = {row[0]: row[2] for row in table(networks.split("**Training.**")[0].split("| argument |")[0])}
    assert list(rows) == list(MAKERS)
    for name, make in MAKERS.items():
        wanted = {k: re.findall(r"[\w.]+", v) for k, v in defaults(make, without=("input_shape", "n_classes")).items()}
        said = {k: re.findall(r"[\w.]+", v) for k, v in re.findall(r"(\w+) \(([^)]*)\)", rows[name])}
        if name == "nasnet":
            assert said.pop("ops") == ["the", "paper", "s", str(len(wanted.pop("ops")))]
        assert {k: [w.removesuffix(".0") for w in v] for k, v in wanted.items()} == said, name


def test_every_argument_of_made_networks_is_named() -> None:
    networks = section(DECISIONS, "Networks from decisions")
    rows = table("| argument |" + networks.split("| argument |")[1].split("**Training.**")[0])
    said = {name for row in rows for name in row[0].split(", ")}
    assert said == set(defaults(make_networks, without=("task", "space", "predict", "usual", "sizes")))
