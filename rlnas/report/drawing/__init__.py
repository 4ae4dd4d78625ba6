"""Drawings of a network: layers as boxes, one column after the other, blocks that repeat drawn once."""

from __future__ import annotations

from pathlib import Path

from rlnas.errors import ExportError
from rlnas.graph import Graph
from rlnas.report.drawing.columns import compose
from rlnas.report.drawing.png import png_excuse, write_png
from rlnas.report.drawing.svg import svg_text

__all__ = ["PICTURES", "draw"]

PICTURES = (".svg", ".png")
"""Endings of the files that `draw` writes."""


def draw(graph: Graph, path: str | Path, *, title: str | None = None) -> None:
    """Draw a graph into an SVG or PNG file.

    Args:
        path: What it ends in says the kind of file.
        title: Heading; by default the network's parameters and MACs.

    Raises:
        ExportError: If the ending is not known, the file cannot be written, or a PNG lacks matplotlib.
    """
    target = Path(path)
    if target.suffix not in PICTURES:
        raise ExportError(f"cannot draw into {target}: name a file that ends in {' or '.join(PICTURES)}")
    if target.suffix == ".png" and (excuse := png_excuse()) is not None:
        raise ExportError(excuse)
    scene = compose(graph, title=title or f"{graph.n_params:,} parameters, {graph.macs:,} MACs")
    try:
        if target.suffix == ".svg":
            target.write_text(svg_text(scene), encoding="utf-8")
        else:
            write_png(scene, target)
    except OSError as error:
        raise ExportError(f"cannot write {target}: {error.strerror}") from None
