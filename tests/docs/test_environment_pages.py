"""Every registered environment has a page, and a docstring, with Gymnasium's headings."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import gymnasium
import pytest
from gymnasium.envs.registration import load_env_creator

from tests.docs.pages import PAGES, section, table
from tests.envs.ids import IDS

HEADINGS = [
    "Description",
    "Action Space",
    "Observation Space",
    "Rewards",
    "Starting State",
    "Episode End",
    "Arguments",
    "Version History",
]


def headings(text: str) -> list[str]:
    return re.findall(r"^## (.*)$", text, re.MULTILINE)


def pages_of(id: str) -> list[Path]:
    """Pages that name an environment and have the headings, in their order and before any other."""
    named = [page for page in PAGES if f"`{id}`" in page.read_text()]
    return [page for page in named if [h for h in headings(page.read_text()) if h in HEADINGS] == HEADINGS]


@pytest.mark.parametrize("id", IDS)
def test_every_id_has_a_page_with_gymnasiums_headings(id: str) -> None:
    assert pages_of(id), f"no page names {id} and has all of {HEADINGS}"
    for page in pages_of(id):
        assert all(section(page, heading).strip() for heading in HEADINGS)
        rows = table(section(page, "Observation Space"))
        assert [row[0] for row in rows] == ["nodes", "node_mask", "context", "action_mask"]
        assert re.search(r"^- v0: ", section(page, "Version History"), re.MULTILINE)


@pytest.mark.parametrize("id", IDS)
def test_docstrings_have_the_same_headings(id: str) -> None:
    entry = gymnasium.registry[id].entry_point
    made = load_env_creator(entry) if isinstance(entry, str) else entry
    text = inspect.getdoc(made) or ""
    assert headings(text) == HEADINGS and "| `action_mask` | MultiBinary |" in text
