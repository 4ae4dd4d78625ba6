"""The final comparison of networks, for a terminal, a text file and Markdown."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rlnas.report.statistics import Estimate

NONE = "-"


@dataclass(frozen=True)
class Row:
    """One network of the comparison.

    Attributes:
        name: Who found it, such as ``start`` or ``ppo``.
        n_params: Parameters.
        macs: Multiply-accumulates for one sample.
        operators: The edits that led to it, such as ``widen(conv1, 2.0)``.
        validation: Accuracy on the validation split, evaluated again with fresh seeds.
        test: Accuracy on the test split after the final training, with Wilson's interval.
        latency_ms: Measured latency.
        latency_interval_ms: Its interval.
        reward: Reward of the evaluations with fresh seeds.
    """

    name: str
    n_params: int
    macs: int
    operators: tuple[str, ...]
    validation: Estimate | None = None
    test: Estimate | None = None
    latency_ms: float | None = None
    latency_interval_ms: tuple[float, float] | None = None
    reward: Estimate | None = None


def rich_table(rows: Sequence[Row], *, title: str | None = None) -> Table:
    """Table for a terminal: a column a network; the edits that led to each stand below, where they have room."""
    edits = [f"{row.name}: {', '.join(row.operators) or 'no edits'}" for row in rows]
    table = Table(
        title=title,
        caption=escape("\n".join(edits)),
        box=box.SIMPLE_HEAD,
        title_justify="left",
        title_style="bold",
        caption_justify="left",
        caption_style="none",
        pad_edge=False,
    )
    table.add_column("", no_wrap=True)
    for row in rows:
        table.add_column(escape(row.name), justify="right", overflow="fold")
    for label, cell in _lines(rows):
        table.add_row(escape(label), *(escape(cell(row)) for row in rows))
    return table


def plain_table(rows: Sequence[Row], *, title: str | None = None, width: int = 100) -> str:
    """The table of `rich_table` as text without colours."""
    console = Console(file=io.StringIO(), width=width, color_system=None, force_terminal=False, legacy_windows=False)
    console.print(rich_table(rows, title=title))
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().strip("\n").splitlines()) + "\n"


def markdown_table(rows: Sequence[Row]) -> str:
    """Table in Markdown: a line a network."""
    lines = _lines(rows)
    header = ["network", *(label for label, _ in lines), "edits"]
    text = [f"| {' | '.join(header)} |", f"|{'---|' + '---:|' * len(lines) + '---|'}"]
    for row in rows:
        cells = [row.name, *(cell(row).replace("\n", " ") for _, cell in lines), ", ".join(row.operators) or "none"]
        text.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(text) + "\n"


def _lines(rows: Sequence[Row]) -> list[tuple[str, Callable[[Row], str]]]:
    """Label and formatter of every line; without those that no network has."""
    lines: list[tuple[str, Callable[[Row], str]]] = [
        ("validation accuracy", lambda row: _percent_around(row.validation)),
        ("test accuracy", lambda row: _percent_between(row.test)),
        ("reward", lambda row: _around(row.reward)),
        ("parameters", lambda row: f"{row.n_params:,}"),
        ("MACs", lambda row: f"{row.macs:,}"),
        ("latency [ms]", _latency),
    ]
    return [(label, cell) for label, cell in lines if any(cell(row) != NONE for row in rows)]


def _percent_around(estimate: Estimate | None) -> str:
    if estimate is None:
        return NONE
    if estimate.interval is None:
        return f"{100 * estimate.mean:.2f} %"
    return f"{100 * estimate.mean:.2f} ± {50 * (estimate.interval[1] - estimate.interval[0]):.2f} %"


def _percent_between(estimate: Estimate | None) -> str:
    if estimate is None:
        return NONE
    if estimate.interval is None:
        return f"{100 * estimate.mean:.2f} %"
    low, high = estimate.interval
    return f"{100 * estimate.mean:.2f} %\n[{100 * low:.1f}, {100 * high:.1f}]"


def _around(estimate: Estimate | None) -> str:
    if estimate is None:
        return NONE
    if estimate.interval is None:
        return f"{estimate.mean:.3f}"
    return f"{estimate.mean:.3f} ± {(estimate.interval[1] - estimate.interval[0]) / 2:.3f}"


def _latency(row: Row) -> str:
    if row.latency_ms is None:
        return NONE
    if row.latency_interval_ms is None:
        return f"{row.latency_ms:.4g}"
    low, high = row.latency_interval_ms
    return f"{row.latency_ms:.4g}\n[{low:.4g}, {high:.4g}]"
