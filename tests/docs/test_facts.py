"""What the README and the guide say agrees with the code: names, defaults, files, settings, links."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import rlnas
from rlnas.cli.config import RewardSettings, SearchSettings
from rlnas.cli.parse import flat, search_parser
from rlnas.controllers import CONTROLLERS, SlotPolicy
from rlnas.envs.make import make_problem, make_space
from rlnas.evaluation import Store
from rlnas.evaluation.records import COLUMNS
from rlnas.layout import CONTEXT_FEATURES, NODE_FEATURES
from rlnas.operators import Operator
from rlnas.rewards import REWARDS
from rlnas.tasks import TASKS
from tests.cli.running import REPOSITORY
from tests.docs.pages import PAGES, section, table

README = REPOSITORY / "README.md"
ENVIRONMENT, OPERATORS, CONTROLLER_PAGE, RUNS, REWARD_PAGE = (
    REPOSITORY / "docs" / f"{name}.md" for name in ("environment", "operators", "controllers", "runs", "rewards")
)


def defaults(function: object, *, without: tuple[str, ...]) -> dict[str, str]:
    """Keyword arguments with their defaults as text."""
    assert callable(function)
    parameters = inspect.signature(function).parameters.values()
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name not in without]
    return {p.name: str(p.default) for p in named}


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_settings_exist(page: Path) -> None:
    keys = set(flat(search_parser("rlnas train").get_defaults().as_dict()))
    groups = "|".join({key.split(".")[0] for key in keys if "." in key})
    for name in re.findall(rf"(?<![\w./])((?:{groups})\.(?!md\b)[a-z_]+)(?![\w.(])", page.read_text()):
        assert name in keys, name


def test_readme_names_every_task_and_its_options() -> None:
    rows = {row[0]: row[-1] for row in table(section(README, "Your own data").split("names:")[1])}
    assert set(rows) == set(TASKS)
    for name, task in TASKS.items():
        words = set(re.findall(r"[a-z_]+", rows[name])) - {"or"}
        assert words == set(defaults(task, without=("path",))), name


def test_operators_page_agrees_with_the_registry() -> None:
    rows = {row[0]: row for row in table(OPERATORS.read_text())}
    assert list(rows) == list(rlnas.OPERATORS)
    for name, operator in rlnas.OPERATORS.items():
        assert isinstance(operator, Operator)
        assert rows[name][2] == ("exactly" if operator.exact else "nearly"), name
        assert rows[name][3] == ", ".join(f"{amount:g}" for amount in operator.amounts), name
        assert section(OPERATORS, name)


def test_controllers_page_agrees_with_the_registry() -> None:
    rows = {row[0]: row[-1] for row in table(CONTROLLER_PAGE.read_text())}
    assert list(rows) == list(CONTROLLERS)
    assert all((REPOSITORY / config).is_file() for config in rows.values())
    for name, controller in CONTROLLERS.items():
        own = "__init__" in vars(controller)  # or its arguments are another's
        wanted = defaults(controller.__init__, without=("self", "env", "seed")) if own else {}
        text = section(CONTROLLER_PAGE, name)
        assert (dict(row[:2] for row in table(text)) if wanted else {}) == wanted, name


def test_controllers_page_names_the_policy_arguments() -> None:
    given = ("self", "observation_space", "action_space", "lr_schedule", "use_sde", "critic")
    text = section(CONTROLLER_PAGE, "The policy").split("policy_kwargs")[1]
    for name, default in defaults(SlotPolicy.__init__, without=given).items():
        assert f"`{name}` (" in text, name
        value = text.split(f"`{name}` (")[1].split(")")[0].replace("`", "").replace("1e-5", "1e-05")
        assert value.lower().startswith(default.lower()), name


def test_environment_page_names_every_feature() -> None:
    nodes, context = section(ENVIRONMENT, "Observation Space").split("`rlnas.layout.CONTEXT_FEATURES`")
    assert all(f"`{name}`" in nodes for name in NODE_FEATURES)
    assert f"slots \u00d7 {len(NODE_FEATURES)}" in nodes
    assert {name for row in table(context) for name in row[0].split(", ")} == set(CONTEXT_FEATURES)


def test_environment_page_names_every_argument_and_default() -> None:
    rows = table(section(ENVIRONMENT, "Arguments"))
    said = {
        name: value.strip('"')
        for row in rows
        for name, value in zip(row[0].split(", "), row[1].split(", "), strict=True)
    }
    assert said == defaults(make_problem, without=()) | defaults(make_space, without=("task",))


def test_environment_page_has_gymnasiums_headings() -> None:
    headings = re.findall(r"^## (.*)$", ENVIRONMENT.read_text(), re.MULTILINE)
    wanted = [
        "Description",
        "Action Space",
        "Observation Space",
        "Rewards",
        "Starting State",
        "Episode End",
        "Arguments",
        "Version History",
    ]
    assert headings[: len(wanted)] == wanted


def test_rewards_page_names_every_reward_and_its_constants() -> None:
    rows = table(section(REWARD_PAGE, "All of them"))
    assert [row[0] for row in rows] == list(REWARDS)
    for name, _, options in rows:
        formula = REWARDS[name]
        assert options == ", ".join(f"{option}={getattr(formula, option)}" for option in formula.options), name
    words = inspect.getdoc(RewardSettings) or ""
    assert re.findall(r"[a-z_0-9]+", words.split("name: ")[1].split(".")[0].replace(" or", "")) == list(REWARDS)


def test_store_columns_that_the_guide_selects_exist() -> None:
    selected = re.search(r"SELECT (.*?) FROM", RUNS.read_text())
    assert selected and set(selected[1].split(", ")) <= set(COLUMNS)
    assert Store.__name__ in RUNS.read_text()


def test_settings_have_the_defaults_that_the_readme_tells_of() -> None:
    settings = SearchSettings()
    assert (settings.evaluations, settings.final.candidates, settings.final.seeds) == (150, 5, 3)
