"""Curves with their intervals as an SVG picture, which takes its colours from the page that it is in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from rlnas.report.statistics import Estimate

WIDTH, HEIGHT = 560, 340
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 14, 46
COLOURS = 8
"""Colours, ``--c0`` and so on, that a page has to define; the ninth curve has the first again, with other dashes."""
DASHES = ("", "7 3", "2 3", "9 3 2 3")


@dataclass(frozen=True)
class Curve:
    """One line of a chart.

    Attributes:
        name: In the legend.
        points: Mean and interval at each x, ascending.
    """

    name: str
    points: Sequence[tuple[float, Estimate]]


def chart(curves: Sequence[Curve], *, x_label: str, y_label: str) -> str:
    """An ``<svg>`` element: steps of the means, bands of the intervals."""
    drawn = [(i, curve) for i, curve in enumerate(curves) if curve.points]
    if not drawn:
        return "<p>Nothing feasible has been found yet.</p>"
    xs = [x for _, curve in drawn for x, _ in curve.points]
    ys = _heights([curve for _, curve in drawn])
    x_ticks, y_ticks = ticks(min(0.0, *xs), max(xs)), ticks(min(ys), max(ys))
    frame = _Frame((x_ticks[0], max(xs)), (min(min(ys), y_ticks[0]), max(max(ys), y_ticks[-1])))
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(y_label)} over {escape(x_label)}">',
        *frame.grid(x_ticks, y_ticks),
    ]
    for i, curve in drawn:
        parts.append(f'<path class="band" style="fill:var(--c{i % COLOURS})" d="{frame.band(curve.points)}"/>')
    for i, curve in drawn:
        dash = f' stroke-dasharray="{_dash(i)}"' if _dash(i) else ""
        style = f'style="stroke:var(--c{i % COLOURS})"{dash}'
        parts.append(f'<path class="line" {style} d="{frame.line(curve.points)}"/>')
    middle_x, middle_y = (LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2
    parts.append(f'<text class="axis" x="{middle_x:g}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>')
    parts.append(
        f'<text class="axis" transform="translate(13 {middle_y:g}) rotate(-90)" text-anchor="middle">'
        f"{escape(y_label)}</text>"
    )
    return "\n".join([*parts, "</svg>"])


def legend(names: Sequence[str]) -> str:
    """The names beside samples of their lines."""
    entries = []
    for i, name in enumerate(names):
        dash = f' stroke-dasharray="{_dash(i)}"' if _dash(i) else ""
        line = f'<path class="line" style="stroke:var(--c{i % COLOURS})"{dash} d="M1 5H31"/>'
        entries.append(f'<li><svg class="key" viewBox="0 0 32 10" aria-hidden="true">{line}</svg>{escape(name)}</li>')
    return f'<ul class="legend">{"".join(entries)}</ul>'


def _dash(i: int) -> str:
    return DASHES[(i + i // COLOURS) % len(DASHES)]


def ticks(low: float, high: float, *, about: int = 5) -> list[float]:
    """Round numbers within a range, or around it if it has no width."""
    span = high - low
    if span <= 0:
        span = abs(high) or 1.0
        low, high = low - span / 2, high + span / 2
    power = 10 ** math.floor(math.log10(span / about))
    step = next(power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= about)
    return [round(k * step, 12) for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _heights(curves: Sequence[Curve]) -> list[float]:
    """What the y axis has to show: all means, and the intervals but for those far wider than the range of the means."""
    means = [e.mean for curve in curves for _, e in curve.points]
    room = 0.5 * (max(means) - min(means)) or 0.05 * abs(means[0]) or 1.0
    ends = [end for curve in curves for _, e in curve.points for end in (e.interval or ())]
    return means + [min(max(end, min(means) - room), max(means) + room) for end in ends]


class _Frame:
    def __init__(self, x: tuple[float, float], y: tuple[float, float]) -> None:
        self._x, self._y = x, y

    def x(self, value: float) -> float:
        low, high = self._x
        return LEFT + (value - low) / ((high - low) or 1.0) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high = self._y
        share = min(1.0, max(0.0, (value - low) / ((high - low) or 1.0)))
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def line(self, points: Sequence[tuple[float, Estimate]]) -> str:
        return self._steps([(x, e.mean) for x, e in points], "M")

    def band(self, points: Sequence[tuple[float, Estimate]]) -> str:
        """There and back; the best so far stays until the next x."""
        upper = [(x, e.interval[1] if e.interval else e.mean) for x, e in points]
        lower = [(x, e.interval[0] if e.interval else e.mean) for x, e in points]
        back = []
        for (x, _), (_, before) in zip(reversed(lower[1:]), reversed(lower[:-1]), strict=True):
            back.append(f"H{self.x(x):.1f}V{self.y(before):.1f}")
        end = f"L{self.x(lower[-1][0]):.1f} {self.y(lower[-1][1]):.1f}"
        return f"{self._steps(upper, 'M')}{end}{''.join(back)}H{self.x(lower[0][0]):.1f}Z"

    def _steps(self, points: Sequence[tuple[float, float]], begin: str) -> str:
        (x, y), *rest = points
        return f"{begin}{self.x(x):.1f} {self.y(y):.1f}" + "".join(
            f"H{self.x(px):.1f}V{self.y(py):.1f}" for px, py in rest
        )

    def grid(self, x_ticks: Sequence[float], y_ticks: Sequence[float]) -> list[str]:
        parts = []
        for value in y_ticks:
            y = self.y(value)
            parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
            parts.append(f'<text class="tick" x="{LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
        for value in x_ticks:
            x = self.x(value)
            parts.append(f'<path class="grid" d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
            bottom = HEIGHT - BOTTOM + 17
            parts.append(f'<text class="tick" x="{x:.1f}" y="{bottom}" text-anchor="middle">{value:g}</text>')
        return parts
