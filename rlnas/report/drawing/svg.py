"""A scene as SVG text."""

from __future__ import annotations

from xml.sax.saxutils import escape

from rlnas.report.drawing.scene import (
    COLOURS,
    DEEP,
    FRAME,
    INK,
    LINE,
    MUTED,
    SMALL,
    TEXT,
    Edge,
    Scene,
    Shape,
    Words,
    rounded,
)

FONT = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"


def svg_text(scene: Scene) -> str:
    """The whole file."""
    size = f"{scene.right:.0f} {scene.height:.0f}"
    width, height = size.split()
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {size}" '
        f'font-family="{FONT}">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    lines += [
        f'<rect x="{f.x:.1f}" y="{f.y:.1f}" width="{f.width:.1f}" height="{f.height:.1f}" rx="8" '
        f'fill="{DEEP if f.deep else FRAME}" stroke="{"#ffffff" if f.deep else FRAME}" stroke-width="0.8"/>'
        for f in scene.frames
    ]
    lines += [line for edge in scene.edges for line in _edge(edge)]
    lines += [line for shape in scene.shapes for line in _shape(shape)]
    lines += [_words(words) for words in scene.words if words.text]
    return "\n".join([*lines, "</svg>"]) + "\n"


def _edge(edge: Edge) -> list[str]:
    first, last = edge.places[0], edge.places[-1]
    path = f"M{first[0]:.1f} {first[1]:.1f}"
    for begin, corner, end in rounded(edge.places):
        path += f" L{begin[0]:.1f} {begin[1]:.1f} Q{corner[0]:.1f} {corner[1]:.1f} {end[0]:.1f} {end[1]:.1f}"
    path += f" L{last[0]:.1f} {last[1]:.1f}"
    lines = [f'<path d="{path}" fill="none" stroke="{LINE}" stroke-width="1.1"/>']
    if edge.arrow:
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in arrowhead(edge))
        lines.append(f'<polygon points="{points}" fill="{LINE}"/>')
    return lines


def arrowhead(edge: Edge, size: float = 4.2) -> list[tuple[float, float]]:
    """Corners of the arrowhead at a line's end."""
    (ax, ay), (bx, by) = edge.places[-2:]
    length = max(((bx - ax) ** 2 + (by - ay) ** 2) ** 0.5, 1e-9)
    ux, uy = (bx - ax) / length, (by - ay) / length
    back = (bx - ux * size, by - uy * size)
    half = size * 0.55
    return [(bx, by), (back[0] - uy * half, back[1] + ux * half), (back[0] + uy * half, back[1] - ux * half)]


def _shape(shape: Shape) -> list[str]:
    fill, stroke = COLOURS[shape.family]
    radius = {"box": 4.0, "pill": shape.height / 2, "circle": shape.height / 2, "dot": shape.height / 2}[shape.kind]
    lines = [
        f'<rect x="{shape.x - shape.width / 2:.1f}" y="{shape.top:.1f}" width="{shape.width:.1f}" '
        f'height="{shape.height:.1f}" rx="{radius:.1f}" fill="{fill}" stroke="{stroke}" stroke-width="1"/>'
    ]
    return lines + [_words(words) for words in shape_words(shape)]


def shape_words(shape: Shape) -> list[Words]:
    """The words in a layer's outline."""
    if not shape.label:
        return []
    size = TEXT if shape.kind == "box" else 13.0 if shape.kind == "circle" else SMALL + 1
    if not shape.note:
        return [Words(shape.label, shape.x, shape.y, size, "middle", INK)]
    return [
        Words(shape.label, shape.x, shape.y - 6.2, size, "middle", INK),
        Words(shape.note, shape.x, shape.y + 7.6, SMALL, "middle", MUTED),
    ]


def _words(words: Words) -> str:
    weight = ' font-weight="600"' if words.bold else ""
    return (
        f'<text x="{words.x:.1f}" y="{words.y + 0.35 * words.size:.1f}" font-size="{words.size:g}" '
        f'text-anchor="{words.anchor}" fill="{words.colour}"{weight}>{escape(words.text)}</text>'
    )
