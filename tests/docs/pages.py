"""The pages of the guide and what is in them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from tests.cli.running import REPOSITORY

PAGES = (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md")))
BEST = "# in the folder best/"
"""First line of a Python block that runs without rlnas, in the folder of a run's best network."""


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[list[str]]:
    """The words of every shell command."""
    lines = [line for block in blocks(page, "sh") for line in block.splitlines() if line]
    return [shlex.split(line, comments=True) for line in lines]


def section(page: Path, title: str) -> str:
    """The text under a heading, up to the next one of any level."""
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", page.read_text(), re.MULTILINE | re.DOTALL)
    assert found, f"{page.name} has no section {title!r}"
    return found[1]


def table(text: str) -> list[list[str]]:
    """Cells of the first table in a text, without its head and the backticks."""
    lines = text[text.index("|") :].split("\n\n", 1)[0].strip().splitlines()
    return [[cell.strip().replace("`", "") for cell in line.strip("|").split("|")] for line in lines[2:]]
