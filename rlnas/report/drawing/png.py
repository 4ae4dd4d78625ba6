"""A scene as pixels, drawn by matplotlib: a PNG file, or an array of one size whatever the scene."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rlnas.report.drawing.scene import COLOURS, DEEP, FRAME, LINE, Scene, Words, rounded
from rlnas.report.drawing.svg import arrowhead, shape_words

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 180
MOST_PIXELS = 30_000
POINTS = 72
LARGEST = 2.2
"""Pixels of an array for a point, at most: a small network does not fill the picture."""
SCALE = 0.9
"""Type of matplotlib's own font, which is wider than what the SVG asks for."""


def png_excuse() -> str | None:
    """Why no PNG can be drawn; None if all is there."""
    if importlib.util.find_spec("matplotlib") is not None:
        return None
    return "a PNG needs matplotlib, not installed here; install it with pip install 'rlnas[plot]', or draw an SVG"


def write_png(scene: Scene, path: Path) -> None:
    """Draw the file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    longest = max(scene.right, scene.height) / POINTS
    figure = _figure(scene, scene.right, scene.height)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=min(DPI, MOST_PIXELS / longest), facecolor="white")


def pixels(scene: Scene, *, width: int, height: int) -> NDArray[np.uint8]:
    """Draw an array of shape (height, width, 3), red, green and blue: the scene as large as fits, on white."""
    scale = min(width / scene.right, height / scene.height, LARGEST)
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = _figure(scene, width / scale, height / scale)
    figure.set_dpi(POINTS * scale)
    figure.set_size_inches(width / figure.dpi, height / figure.dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    drawn = np.asarray(canvas.buffer_rgba())[..., :3]  # type: ignore[no-untyped-call]
    assert drawn.shape == (height, width, 3), drawn.shape
    return drawn.copy()


def _figure(scene: Scene, width: float, height: float) -> Figure:
    """A scene at the top, in the middle, of a page of so many points."""
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyBboxPatch, PathPatch, Polygon
    from matplotlib.path import Path as Outline

    figure = Figure(figsize=(width / POINTS, height / POINTS), facecolor="white")
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    left = (width - scene.right) / 2
    axes.set_xlim(-left, scene.right + left)
    axes.set_ylim(height, 0)
    axes.axis("off")

    def outline(x: float, y: float, width: float, height: float, radius: float, fill: str, stroke: str) -> None:
        style = f"round,pad=0,rounding_size={min(radius, height / 2, width / 2)}"
        axes.add_patch(
            FancyBboxPatch((x, y), width, height, boxstyle=style, facecolor=fill, edgecolor=stroke, linewidth=1.0)
        )

    def write(words: Words) -> None:
        place = {"start": "left", "middle": "center", "end": "right"}[words.anchor]
        axes.text(
            words.x,
            words.y,
            words.text.replace("$", r"\$"),
            fontsize=words.size * SCALE,
            ha=place,
            va="center_baseline",
            color=words.colour,
            fontweight="bold" if words.bold else "normal",
            family="DejaVu Sans",
        )

    for frame in scene.frames:
        outline(
            frame.x,
            frame.y,
            frame.width,
            frame.height,
            8,
            DEEP if frame.deep else FRAME,
            "#ffffff" if frame.deep else FRAME,
        )
    for edge in scene.edges:
        vertices, codes = [edge.places[0]], [Outline.MOVETO]
        for begin, corner, end in rounded(edge.places):
            vertices += [begin, corner, end]
            codes += [Outline.LINETO, Outline.CURVE3, Outline.CURVE3]
        axes.add_patch(
            PathPatch(Outline([*vertices, edge.places[-1]], [*codes, Outline.LINETO]), fill=False, ec=LINE, lw=1.1)
        )
        if edge.arrow:
            axes.add_patch(Polygon(arrowhead(edge), closed=True, facecolor=LINE, edgecolor="none"))
    for shape in scene.shapes:
        fill, stroke = COLOURS[shape.family]
        radius = 4.0 if shape.kind == "box" else shape.height / 2
        outline(shape.x - shape.width / 2, shape.top, shape.width, shape.height, radius, fill, stroke)
        for words in shape_words(shape):
            write(words)
    for words in scene.words:
        write(words)
    return figure
