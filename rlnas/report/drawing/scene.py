"""What a drawing consists of: boxes, lines and words at their places, in points, y downwards."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal["box", "pill", "circle", "dot"]
Place = tuple[float, float]

INK, MUTED, LINE, FRAME, DEEP = "#1f2933", "#66717d", "#7b8794", "#f3f5f7", "#d5dbe1"

COLOURS: dict[str, tuple[str, str]] = {
    "input": ("#ffffff", "#52606d"),
    "conv": ("#d6e6fa", "#2b6cb0"),
    "depthwise": ("#cdeee9", "#0f766e"),
    "linear": ("#e4dcf9", "#6b46c1"),
    "embedding": ("#f7dcec", "#b83280"),
    "norm": ("#e6ebf0", "#627d98"),
    "activation": ("#fdeccf", "#c05621"),
    "pool": ("#fcf3bf", "#a8780c"),
    "merge": ("#ffffff", "#1f2933"),
    "attention": ("#fbd9d9", "#c53030"),
    "other": ("#f0f0f0", "#829099"),
}
"""Fill and outline of each family of ops."""

TEXT, SMALL, HEADING = 11.0, 8.5, 11.0
"""Sizes of type."""


def text_width(text: str, size: float) -> float:
    """Width of a text, on the safe side for sans-serif type."""
    narrow = sum(letter in " .,:;il|!'()[]/ft" for letter in text)
    return size * (0.6 * (len(text) - narrow) + 0.33 * narrow)


@dataclass(frozen=True)
class Shape:
    """A layer.

    Attributes:
        kind: Form of its outline.
        family: What gives its colours.
        label: Words in it.
        note: Smaller words under them.
        x: Middle.
        y: Middle.
        width: Outer size.
        height: Outer size.
    """

    kind: Kind
    family: str
    label: str
    note: str
    x: float
    y: float
    width: float
    height: float

    @property
    def top(self) -> float:
        """Upper edge."""
        return self.y - self.height / 2

    @property
    def bottom(self) -> float:
        """Lower edge."""
        return self.y + self.height / 2


@dataclass(frozen=True)
class Edge:
    """A line through some places, its corners rounded; it ends in an arrowhead if `arrow`."""

    places: tuple[Place, ...]
    arrow: bool = True


@dataclass(frozen=True)
class Words:
    """A line of text.

    Attributes:
        text: What it says.
        x: Where it begins, ends or has its middle.
        y: Its middle.
        size: Size of type.
        anchor: Which of them.
        colour: Colour of type.
        bold: True for headings.
    """

    text: str
    x: float
    y: float
    size: float = SMALL
    anchor: Literal["start", "middle", "end"] = "start"
    colour: str = MUTED
    bold: bool = False


@dataclass(frozen=True)
class Frame:
    """A light ground behind layers that belong together; a `deep` one looks out from behind another."""

    x: float
    y: float
    width: float
    height: float
    deep: bool = False


@dataclass(frozen=True)
class Scene:
    """A drawing, or a part of one.

    Attributes:
        left: How far it goes to the left of x = 0.
        right: How far to the right.
        height: How far down.
    """

    left: float = 0.0
    right: float = 0.0
    height: float = 0.0
    frames: tuple[Frame, ...] = ()
    edges: tuple[Edge, ...] = ()
    shapes: tuple[Shape, ...] = ()
    words: tuple[Words, ...] = ()

    def moved(self, x: float, y: float) -> Scene:
        """The same at another place."""
        return Scene(
            self.left - x,
            self.right + x,
            self.height + y,
            tuple([replace(f, x=f.x + x, y=f.y + y) for f in self.frames]),
            tuple([replace(e, places=tuple([(a + x, b + y) for a, b in e.places])) for e in self.edges]),
            tuple([replace(s, x=s.x + x, y=s.y + y) for s in self.shapes]),
            tuple([replace(w, x=w.x + x, y=w.y + y) for w in self.words]),
        )

    def __add__(self, other: Scene) -> Scene:
        return Scene(
            max(self.left, other.left),
            max(self.right, other.right),
            max(self.height, other.height),
            self.frames + other.frames,
            self.edges + other.edges,
            self.shapes + other.shapes,
            self.words + other.words,
        )


def rounded(places: tuple[Place, ...], radius: float = 6.0) -> list[tuple[Place, Place, Place]]:
    """For each corner of a line: where the round begins, the corner itself, and where it ends."""
    found = []
    for before, corner, after in zip(places, places[1:], places[2:], strict=False):
        ends = []
        for other in (before, after):
            dx, dy = other[0] - corner[0], other[1] - corner[1]
            length = max((dx * dx + dy * dy) ** 0.5, 1e-9)
            reach = min(radius, length / 2)
            ends.append((corner[0] + dx / length * reach, corner[1] + dy / length * reach))
        found.append((ends[0], corner, ends[1]))
    return found
