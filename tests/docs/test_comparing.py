"""The page about comparisons: its file can be read, and it names what there is."""

from __future__ import annotations

from pathlib import Path

from rlnas.cli.compare_settings import KEYS, read_comparison
from rlnas.report.standings import COLUMNS
from tests.cli.running import REPOSITORY
from tests.docs.pages import blocks, section, table

PAGE = REPOSITORY / "docs" / "comparing.md"


def test_the_file_on_the_page_can_be_read(tmp_path: Path) -> None:
    (text,) = blocks(PAGE, "yaml")
    path = tmp_path / "page.yaml"
    path.write_text(text)
    comparison = read_comparison(path)
    assert len(comparison.cells) == 16 * 5 * 2 and comparison.jobs == 2
    (halving,) = [c for c in comparison.cells if c.controller == "halving" and c.task == "fashion" and c.seed == 3]
    assert halving.settings["evaluation"]["halving"] == 3 and halving.settings["evaluation"]["epochs"] == 1


def test_keys_and_columns_are_those_that_there_are() -> None:
    assert {row[0] for row in table(section(PAGE, "The file"))} == {*KEYS}
    said = {name.strip() for row in table(section(PAGE, "What it says")) for name in row[0].split(",")}
    assert said == {column.heading.split(" [")[0] for column in COLUMNS}
