"""The drawing of decisions: a line for each, what there is to choose from as boxes, and what is chosen filled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rlnas.report.drawing.scene import HEADING, INK, SMALL, TEXT, Frame, Scene, Shape, Words, text_width

MARGIN, ROW, BOX, BESIDE, BETWEEN = 22.0, 24.0, 17.0, 5.0, 30.0
TALLEST = 26
"""Decisions in a column."""
MOST_CHOICES = 12
"""Choices that are drawn one by one; of more only the one that is chosen."""


@dataclass(frozen=True)
class Row:
    """One decision.

    Attributes:
        name: What it is called.
        choices: What there is to choose from.
        chosen: Number of the choice; None while it is open.
        current: True if it is the next to be taken.
    """

    name: str
    choices: tuple[str, ...]
    chosen: int | None
    current: bool = False


def compose_choices(rows: Sequence[Row], *, title: str) -> Scene:
    """The drawing of some decisions, in as many columns as they need."""
    number = math.ceil(len(rows) / TALLEST)
    height = math.ceil(len(rows) / number)
    scene = Scene(words=(Words(title, MARGIN, MARGIN, HEADING, colour=INK, bold=True),))
    x, reach = MARGIN, MARGIN + text_width(title, HEADING)
    for k in range(number):
        column, right = _column(rows[k * height : (k + 1) * height], x)
        scene += column
        reach = max(reach, right)
        x = right + BETWEEN
    return scene + Scene(right=reach + MARGIN, height=MARGIN + 20 + ROW * height + MARGIN)


def _column(rows: Sequence[Row], left: float) -> tuple[Scene, float]:
    """Decisions under each other, and how far to the right they go."""
    begin = left + max(text_width(row.name, TEXT) for row in rows) + 14
    scene, reach = Scene(), begin
    for number, row in enumerate(rows):
        y, x = MARGIN + 32 + ROW * number, begin
        colour = INK if row.chosen is not None or row.current else "#9aa5b1"
        words = [Words(row.name, left, y, TEXT, colour=colour, bold=row.current)]
        shapes = []
        for choice in _shown(row):
            text = row.choices[choice]
            width = max(text_width(text, SMALL) + 12, BOX)
            family = "conv" if choice == row.chosen else "input"
            shapes.append(Shape("box", family, "", "", x + width / 2, y, width, BOX))
            ink = INK if choice == row.chosen or row.current else "#9aa5b1"
            words.append(Words(text, x + width / 2, y, SMALL, "middle", ink, bold=choice == row.chosen))
            x += width + BESIDE
        reach = max(reach, x)
        scene += Scene(shapes=tuple(shapes), words=tuple(words))
        if row.current:
            scene += Scene(frames=(Frame(left - 6, y - ROW / 2 + 1, x - left + 8, ROW - 2),))
    return scene, reach


def _shown(row: Row) -> Sequence[int]:
    """Numbers of the choices that are drawn."""
    if len(row.choices) <= MOST_CHOICES:
        return range(len(row.choices))
    return [] if row.chosen is None else [row.chosen]
