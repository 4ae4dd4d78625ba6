"""Picture of a search: accuracy over cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlnas.report.pareto import Point, front

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABELS = {
    "latency_ms": "latency [ms]",
    "macs": "multiply-accumulates for one sample",
    "n_params": "parameters",
}
SPAN_OF_LOG_AXIS = 4.0
"""A cost axis is logarithmic if the highest cost is more than so many times the lowest."""
MOST_WINNERS = 4

_INK, _MUTED, _GRID, _FRONT = "#1f2933", "#5b6672", "#e3e7ec", "#c2410c"
_WINNERS = (("#c2410c", "*", 280.0), ("#7e22ce", "D", 85.0), ("#0369a1", "P", 130.0), ("#4d7c0f", "s", 85.0))
assert len(_WINNERS) == MOST_WINNERS


def save_pareto_plot(
    path: str | Path,
    evaluations: Sequence[Point],
    *,
    start: Point | None = None,
    winners: Mapping[str, Point] | None = None,
    cost: str = "latency_ms",
    limit: float | None = None,
    title: str = "",
) -> str | None:
    """Draw all evaluations, coloured by their order, with the Pareto front as a step line.

    A few evaluations far worse than the rest don't squeeze it: they are triangles at the lower edge.

    Args:
        path: PNG file to write.
        evaluations: In the order in which they were made; those with a number that is not finite are passed over.
        start: The start network.
        winners: Networks to point out, by name; at most `MOST_WINNERS`.
        cost: What the cost is, a key of `LABELS`.
        limit: Highest cost allowed, drawn as a line.
        title: Heading.

    Returns:
        None, or one line that says why there is no picture.
    """
    named = dict(winners or {})
    assert len(named) <= MOST_WINNERS
    numbered = [(n, p) for n, p in enumerate(evaluations, 1) if math.isfinite(p.accuracy) and 0 < p.cost < math.inf]
    if not numbered:
        return "no Pareto plot: no evaluation has both accuracy and cost"
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return "no Pareto plot: matplotlib is not installed (pip install 'rlnas[plot]')"

    figure = Figure(figsize=(8, 5.2), dpi=150, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _style(axes, cost=cost, title=title)
    points = [p for _, p in numbered]
    marked = [*named.values(), *([start] if start else [])]
    _cost_axis(axes, [*(p.cost for p in [*points, *marked]), *([limit] if limit else [])], cost=cost)
    floor = _accuracy_axis(axes, points, marked)
    _draw_evaluations(figure, axes, numbered, floor)
    _draw_front(axes, points)
    if limit:
        axes.axvline(limit, color=_MUTED, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1, label="limit")
    if start:
        ring: dict[str, Any] = {"facecolors": "white", "edgecolors": _INK, "linewidths": 2.2}
        axes.scatter(start.cost, 100 * start.accuracy, s=95, zorder=5, label="start network", **ring)
    for (name, point), (colour, marker, size) in zip(named.items(), _WINNERS, strict=False):
        look: dict[str, Any] = {"marker": marker, "s": size, "color": colour, "edgecolors": "white", "linewidths": 1.2}
        axes.scatter(point.cost, 100 * point.accuracy, zorder=6, label=name, clip_on=False, **look)
    handles, labels = axes.get_legend_handles_labels()
    columns = len(labels) if len(labels) <= 5 else math.ceil(len(labels) / 2)
    figure.legend(
        handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=9, labelcolor=_INK
    )
    try:
        figure.savefig(path)
    except OSError as error:
        return f"no Pareto plot: cannot write {path} ({error.strerror})"
    return None


def _draw_evaluations(figure: Figure, axes: Axes, numbered: Sequence[tuple[int, Point]], floor: float) -> None:
    """Dots coloured by order; triangles for what lies below the axis."""
    look: dict[str, Any] = {
        "cmap": "viridis_r",
        "vmin": 1,
        "vmax": max(2, numbered[-1][0]),
        "linewidths": 0.5,
        "edgecolors": "white",
    }
    inside = [(n, p) for n, p in numbered if 100 * p.accuracy >= floor]
    below = [(n, p) for n, p in numbered if 100 * p.accuracy < floor]
    dots = axes.scatter(
        [p.cost for _, p in inside],
        [100 * p.accuracy for _, p in inside],
        c=[n for n, _ in inside],
        s=30,
        zorder=3,
        **look,
    )
    if below:
        place = axes.transData.inverted().transform((0, axes.transAxes.transform((0, 0.018))[1]))[1]
        axes.scatter(
            [p.cost for _, p in below],
            [place] * len(below),
            c=[n for n, _ in below],
            s=34,
            marker="v",
            zorder=3,
            **look,
        )
        axes.annotate(
            f"{len(below)} below",
            (0.995, 0.012),
            xycoords="axes fraction",
            ha="right",
            va="bottom",
            fontsize=8.5,
            color=_MUTED,
            zorder=7,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
        )
    from matplotlib.ticker import MaxNLocator

    bar = figure.colorbar(dots, ax=axes, pad=0.015, aspect=34)
    bar.locator = MaxNLocator(integer=True)
    bar.update_ticks()
    bar.set_label("evaluation", color=_INK)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=_MUTED, labelcolor=_INK, length=0)


def _draw_front(axes: Axes, points: Sequence[Point]) -> None:
    """Step line from the cheapest network of the front to the right edge."""
    best = [points[i] for i in front(points)]
    axes.step(
        [*(p.cost for p in best), axes.get_xlim()[1]],
        [*(100 * p.accuracy for p in best), 100 * best[-1].accuracy],
        where="post",
        color=_FRONT,
        linewidth=1.5,
        alpha=0.85,
        zorder=2,
        label="Pareto front",
    )


def _cost_axis(axes: Axes, costs: Sequence[float], *, cost: str) -> None:
    """Limits with some room, logarithmic where the costs span much, ticks as plain numbers."""
    from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, NullFormatter

    low, high = min(costs), max(costs)
    if high > SPAN_OF_LOG_AXIS * low:
        axes.set_xscale("log")
        room = (high / low) ** 0.05
        axes.set_xlim(low / room, high * room)
        many = high > 30 * low
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if many else (1, 1.5, 2, 3, 4, 5, 7)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        margin = 0.05 * (high - low) or 0.05 * high
        axes.set_xlim(max(0.0, low - margin), high + margin)
    plain = FuncFormatter(lambda value, _: f"{value:.4g}")
    axes.xaxis.set_major_formatter(plain if cost == "latency_ms" else EngFormatter(sep=""))


def _accuracy_axis(axes: Axes, points: Sequence[Point], marked: Sequence[Point]) -> float:
    """Limits with some room, from which far outliers at the lower end are left out; the lower limit."""
    ordered = sorted(100 * p.accuracy for p in points)
    needed = [100 * p.accuracy for p in marked]
    top = max([*ordered, *needed])
    usual = min([ordered[len(ordered) // 20], *needed])
    low = min([*ordered, *needed])
    bottom = low if low >= usual - 0.5 * (top - usual) else usual
    margin = 0.06 * (top - bottom) or 1.0
    floor = bottom - (margin if bottom == low else 2 * margin)
    axes.set_ylim(floor, top + margin)
    return floor


def _style(axes: Axes, *, cost: str, title: str) -> None:
    axes.set_axisbelow(True)
    axes.grid(True, color=_GRID, linewidth=0.8)
    axes.tick_params(which="both", colors=_MUTED, labelcolor=_INK, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(_GRID)
    axes.set_xlabel(LABELS[cost], color=_INK, fontsize=10.5)
    axes.set_ylabel("validation accuracy [%]", color=_INK, fontsize=10.5)
    axes.set_title(title, loc="left", color=_INK, fontsize=12, fontweight="bold", pad=10)
