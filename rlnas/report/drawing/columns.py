"""The layout of a whole network: its groups under each other, in as many columns as make a page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rlnas.graph import Graph
from rlnas.graph.order import reading_order
from rlnas.graph.outline import Group, flattened_concats, outline
from rlnas.report.drawing.block import GAP, box_width, lay_out
from rlnas.report.drawing.labels import boxes, look
from rlnas.report.drawing.scene import COLOURS, HEADING, INK, MUTED, SMALL, Edge, Frame, Scene, Shape, Words, text_width

MARGIN, BETWEEN, PAD = 22.0, 40.0, 11.0
ASPECT = 1.5
"""Width over height that the columns aim at."""
MOST_COLUMNS = 9
CHAIN = 8
"""Boxes of a network without blocks that go together in a column."""


@dataclass(frozen=True)
class _Part:
    """Groups that are drawn once."""

    scene: Scene
    heading: str
    detail: str
    size: str
    times: int

    @property
    def head(self) -> float:
        """Room above for the words."""
        return (12.0 + 11.0 * bool(self.detail or self.times > 1)) if self.heading else 0.0

    @property
    def height(self) -> float:
        """All of it."""
        return self.head + self.scene.height + 2 * PAD

    @property
    def left(self) -> float:
        """Room to the left of the line that comes in."""
        return max(self.scene.left, max(text_width(words, SMALL) for words in (self.heading, self.detail)) + 6)

    @property
    def right(self) -> float:
        """Room to the right of it."""
        return max(self.scene.right, text_width(self.size, SMALL) + 6)


def compose(graph: Graph, *, title: str) -> Scene:
    """The drawing of a graph."""
    parts = _parts(graph)
    columns = _fit(parts)
    widths = [_width(column) for column in columns]
    top = MARGIN + 26
    scene = Scene()
    x = MARGIN
    exits: list[tuple[float, float]] = []
    entries: list[tuple[float, float]] = []
    for column, width in zip(columns, widths, strict=True):
        y, middle = top, x + PAD + max(part.left for part in column)
        leaving: tuple[float, float] | None = None
        for part in column:
            scene += _placed(part, x, y, width, middle)
            entry = (middle, y + part.head + PAD)
            if leaving is None:
                entries.append(entry)
            else:
                scene += Scene(edges=(Edge((leaving, entry), arrow=False),))
            leaving = (middle, y + part.head + PAD + part.scene.height)
            y += part.height + GAP
        assert leaving is not None
        exits.append(leaving)
        x += width + BETWEEN
    bottom = max(s.y + s.height for s in scene.frames)
    for k in range(len(columns) - 1):
        gutter = MARGIN + sum(widths[: k + 1]) + BETWEEN * (k + 0.5)
        below, above = exits[k][1] + PAD + GAP / 2, top - GAP / 2
        (ax, ay), (bx, by) = exits[k], entries[k + 1]
        line = ((ax, ay), (ax, below), (gutter, below), (gutter, above), (bx, above), (bx, by))
        scene += Scene(edges=(Edge(line, arrow=False),))
    width = MARGIN * 2 + sum(widths) + BETWEEN * (len(columns) - 1)
    legend = _legend(scene, bottom + GAP + 16, width)
    words = (Words(title, MARGIN, MARGIN, HEADING, colour=INK, bold=True),)
    scene = scene + legend + Scene(words=words)
    reach = max([w.x + text_width(w.text, w.size) for w in scene.words if w.anchor == "start"])
    low = max(w.y for w in legend.words)
    return replace(scene, right=max(width, reach + MARGIN), height=low + MARGIN)


# -------------------------------------------------------------------------------------------------------------- parts


def _parts(graph: Graph) -> list[_Part]:
    groups = outline(graph)
    reads = flattened_concats(graph, reading_order(graph))
    found = [box for group in groups for box in boxes(graph, group.nodes, reads)]
    width = max([box_width(box) for box in found if box.kind == "box"], default=80.0)
    parts: list[_Part] = []
    before: tuple[object, ...] | None = None
    runs: list[list[Group]] = []
    for group in groups:
        this = (group.kind, group.stage, look(graph, group.nodes))
        if group.kind == "block" and this == before:
            runs[-1].append(group)
        else:
            runs.append([group])
        before = this
    for run in runs:
        group = run[0]
        size = "\u00d7".join(map(str, run[-1].shape))
        if group.kind == "whole":
            parts += [_Part(scene, "", "", "", 1) for scene in _chain(graph, group, reads, width)]
            continue
        scene = lay_out(graph, group.nodes, reads, width=width)
        parts.append(_Part(scene, *_heading(run), size, len(run)))
    return parts


def _heading(run: Sequence[Group]) -> tuple[str, str]:
    """``stage 2`` and ``blocks 2-3``, or one of them."""
    stage, _, block = run[0].name.rpartition("_")
    number = run[-1].name.rsplit("block", 1)[-1]
    words = [re.sub(r"(?<=[a-z])(?=\d)", " ", text) for text in (stage, block)]
    if len(run) > 1:
        words[1] = f"{words[1].replace('block', 'blocks')}\u2013{number}"
    return (words[0], words[1]) if stage else (words[1], "")


def _chain(graph: Graph, group: Group, reads: dict[str, tuple[str, ...]], width: float) -> list[Scene]:
    """A network without blocks, cut into pieces of some boxes."""
    found = boxes(graph, group.nodes, reads)
    pieces = [found[k : k + CHAIN] for k in range(0, len(found), CHAIN)]
    return [lay_out(graph, [id for box in piece for id in box.nodes], reads, width=width) for piece in pieces]


# ------------------------------------------------------------------------------------------------------------ columns


def _fit(parts: list[_Part]) -> list[list[_Part]]:
    """The number of columns that comes nearest to the shape of a page."""
    best: tuple[float, list[list[_Part]]] | None = None
    for number in range(1, min(len(parts), MOST_COLUMNS) + 1):
        columns = _split(parts, number)
        height = max(_height(column) for column in columns)
        width = sum(map(_width, columns)) + BETWEEN * (len(columns) - 1)
        ratio = width / (height + 60)
        off = max(ratio / ASPECT, ASPECT / ratio)
        if best is None or off < best[0]:
            best = (off, columns)
    assert best is not None
    return best[1]


def _width(column: list[_Part]) -> float:
    return max(part.left for part in column) + max(part.right for part in column) + 2 * PAD


def _height(column: list[_Part]) -> float:
    return sum(part.height for part in column) + GAP * (len(column) - 1)


def _split(parts: list[_Part], number: int) -> list[list[_Part]]:
    """At most so many columns, the highest of them as low as can be."""
    low, high = max(part.height for part in parts), _height(parts)
    columns = [parts]
    for _ in range(40):
        middle = (low + high) / 2
        found = _packed(parts, middle)
        if len(found) <= number:
            columns, high = found, middle
        else:
            low = middle
    return columns


def _packed(parts: list[_Part], most: float) -> list[list[_Part]]:
    columns: list[list[_Part]] = [[]]
    for part in parts:
        if columns[-1] and _height([*columns[-1], part]) > most:
            columns.append([])
        columns[-1].append(part)
    return columns


# -------------------------------------------------------------------------------------------------------------- words


def _placed(part: _Part, x: float, y: float, width: float, middle: float) -> Scene:
    words: list[Words] = []
    if part.heading:
        words.append(Words(part.heading, x + PAD, y + 12, SMALL, colour=INK, bold=True))
        words.append(Words(part.detail, x + PAD, y + 23, SMALL))
        words.append(Words(part.size, x + width - PAD, y + 12, SMALL, "end"))
    if part.times > 1:
        words.append(Words(f"\u00d7{part.times}", x + width - PAD, y + 26, HEADING, "end", INK, bold=True))
    behind = [Frame(x + k, y + k, width, part.height, deep=True) for k in (5.0, 2.5) if part.times > 1]
    frames = (*behind, Frame(x, y, width, part.height))
    inner = part.scene.moved(middle, y + part.head + PAD)
    return Scene(frames=frames, edges=inner.edges, shapes=inner.shapes, words=tuple(words))


def _legend(scene: Scene, y: float, width: float) -> Scene:
    """A sample of each colour that is used."""
    present = {shape.family for shape in scene.shapes}
    x, words, shapes = MARGIN, [], []
    for family in (f for f in COLOURS if f in present and f not in ("input", "merge")):
        if x > MARGIN and x + 22 + text_width(family, SMALL) > width:
            x, y = MARGIN, y + 15
        shapes.append(Shape("box", family, "", "", x + 6, y, 12, 9))
        words.append(Words(family, x + 17, y, SMALL, colour=MUTED))
        x += 17 + text_width(family, SMALL) + 16
    words = words or [Words("", MARGIN, y)]
    return Scene(shapes=tuple(shapes), words=tuple(words))
