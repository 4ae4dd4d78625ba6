"""The evaluations of a run or of a store: listed, or written as a table."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from rlnas.cli.arguments import Parser, target_file
from rlnas.errors import ConfigError
from rlnas.evaluation import Store
from rlnas.report.layers import columns
from rlnas.report.rows import TABLES
from rlnas.runs import CONFIG_FILE, ROW_COLUMNS, SEARCH_COLUMNS, RunDirectory, evaluation_rows

LISTED: Final = 20


def add_tables(parser: Parser) -> None:
    """Options of a command that shows evaluations."""
    group = parser.add_argument_group("a run")
    for form in TABLES:
        group.add_argument(f"--{form}", metavar="FILE", help=f"write all its evaluations as {form}")
    group.add_argument("--last", metavar="N", type=int, help=f"how many evaluations to list; {LISTED} by default")


def shows_evaluations(given: argparse.Namespace) -> bool:
    """True if evaluations are asked for rather than a network.

    Raises:
        ConfigError: If the options do not go together.
    """
    path, asked = Path(given.network), [f"--{form}" for form in TABLES if getattr(given, form)]
    asked += ["--last"] if given.last is not None else []
    is_run = (path / CONFIG_FILE).is_file() or path.suffix == ".sqlite"
    if asked and not is_run:
        raise ConfigError(f"{asked[0]} is for the directory of a run, or a store (*.sqlite); {path} is neither")
    if given.last is not None and given.last < 1:
        raise ConfigError(f"--last={given.last} must be at least 1")
    return is_run and (bool(asked) or not (given.draw or given.sites))


def show_evaluations(given: argparse.Namespace) -> list[str]:
    """Write the tables that are asked for; gives the lines to print.

    Raises:
        ConfigError: If a package for a form is not installed.
        ExportError: If a file cannot be written.
        RunError: If the run cannot be read, or a file is there already.
        StoreError: If the store cannot be read.
    """
    forms = [form for form in TABLES if getattr(given, form)]
    for form in forms:
        target_file(getattr(given, form), force=given.force)
    rows = _rows(Path(given.network))
    for form in forms:
        TABLES[form](rows, getattr(given, form), columns=ROW_COLUMNS)
    if forms:
        return [f"written: {getattr(given, form)} ({len(rows):,} evaluations)" for form in forms]
    return _lines(rows, last=given.last or LISTED, run=given.network)


def _rows(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".sqlite":
        with Store(path, read_only=True) as store:
            return [dict.fromkeys(SEARCH_COLUMNS) | record.to_row() for record in store.rows()]
    return evaluation_rows(*RunDirectory.open(path))


def _lines(rows: Sequence[Mapping[str, Any]], *, last: int, run: str) -> list[str]:
    if not rows:
        return [f"{run}: no evaluations yet"]
    table: list[tuple[str, ...]] = [
        ("search", "number", "status", "accuracy", "latency", "parameters", "MACs", "reward", "edits or reason")
    ]
    table += [_cells(row) for row in rows[-last:]]
    states = [str(row["status"]) for row in rows]
    counts = ", ".join(f"{states.count(state):,} {state}" for state in dict.fromkeys(states))
    lines = [*columns(table, left=(0, 2, 8)), "", f"{len(rows):,} evaluations: {counts}"]
    if len(rows) > last:
        lines.append(f"these are the last {last}; --last N lists more, --csv FILE writes all")
    paid = [row for row in rows if row["reward"] is not None and row["status"] == "ok"]
    if paid:
        best = max(paid, key=lambda row: row["reward"])
        where = f"{best['search']} {best['evaluation']}"
        lines.append(f"best: {where}, reward {best['reward']:.4f}, accuracy {_number(best, '.4f')}")
    return lines


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    latency = row["latency_ms"]
    return (
        row["search"] or "",
        str(row["evaluation"] or ""),
        str(row["status"]),
        _number(row, ".4f"),
        "" if latency is None else f"{latency:.3f} ms",
        "" if row["n_params"] is None else f"{row['n_params']:,}",
        "" if row["macs"] is None else f"{row['macs']:,}",
        "" if row["reward"] is None else f"{row['reward']:.4f}",
        str(row["reason"] or row["operators"] or ""),
    )


def _number(row: Mapping[str, Any], form: str) -> str:
    return "" if row["accuracy"] is None else format(row["accuracy"], form)
