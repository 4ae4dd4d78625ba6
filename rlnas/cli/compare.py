"""``rlnas compare``: controllers x seeds x tasks, each search an ordinary run, beside random search."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from rlnas.cli.arguments import Parser, parse
from rlnas.cli.compare_cells import Folder, prepare, run_cells
from rlnas.cli.compare_results import read_search
from rlnas.cli.compare_settings import Cell, Comparison, read_comparison
from rlnas.cli.parse import settings_from_dict
from rlnas.errors import ConfigError, RlnasError, RunError
from rlnas.report.comparison import Contest, contest
from rlnas.report.page import html
from rlnas.report.rows import write_csv
from rlnas.report.standings import CURVE_COLUMNS, SEARCH_COLUMNS, curve_rows, rows, search_rows
from rlnas.report.verdict import verdict, warnings
from rlnas.runs import write_text


def compare(arguments: Sequence[str]) -> int:
    """Run what is missing of a comparison and report; returns the exit status."""
    parser = Parser(
        prog="rlnas compare",
        allow_abbrev=False,
        description="Compare controllers with random search. Called again, it goes on where it was stopped.",
    )
    parser.add_argument("config", metavar="CONFIG", help="YAML file, such as configs/compare/digits.yaml")
    parser.add_argument("--jobs", type=int, metavar="N", help="searches at the same time; jobs of the file by default")
    parser.add_argument("--name", metavar="NAME", help="name of the comparison's folder; the file's by default")
    parser.add_argument("--report-only", action="store_true", help="run nothing, report on what has ended")
    if any(word.partition("=")[0] == "--config" for word in arguments):
        raise ConfigError("rlnas compare takes its file without --config: rlnas compare CONFIG")
    given = parse(parser, arguments)
    if given is None:
        return 0
    over = {key: value for key in ("jobs", "name") if (value := getattr(given, key)) is not None}
    comparison = read_comparison(given.config, over=over)
    console = Console(highlight=False)
    folder = Folder(comparison.root / comparison.name)
    failed: dict[Cell, str] = {}
    if not given.report_only:
        _check(comparison)
        with folder.alone(say=console.print) as lock:
            prepare(folder, comparison.cells)
            write_text(folder.config, yaml.safe_dump(comparison.plain, sort_keys=False))
            failed = _run(comparison, folder, console, lock=lock, again=f"rlnas compare {' '.join(arguments)}")
    _report(comparison, folder, console, failed)
    if failed:
        cell, reason = next(iter(failed.items()))
        raise RunError(
            f"{len(failed)} of {len(comparison.cells)} searches failed; {cell.name}: {reason} (see {folder.log(cell)})"
        )
    return 0


def _check(comparison: Comparison) -> None:
    """Check each task and controller once, before anything is trained."""
    from rlnas.cli import search, tabular

    first = comparison.cells[0].seed
    for cell in comparison.cells:
        if cell.seed == first:
            try:
                settings = settings_from_dict(cell.settings)
                (tabular if tabular.is_looked_up(settings) else search).check(settings)
            except RlnasError as error:
                raise type(error)(f"{cell.controller} on {cell.task}: {error}") from None


def _run(comparison: Comparison, folder: Folder, console: Console, *, lock: int, again: str) -> dict[Cell, str]:
    """Run the searches that have not ended; gives those that failed, each with the reason."""
    todo = [cell for cell in comparison.cells if not folder.finished(cell)]
    total = sum(cell.settings["evaluations"] for cell in comparison.cells)
    done = total - sum(cell.settings["evaluations"] for cell in todo)
    console.print(
        f"{folder.path}: {len(comparison.cells)} searches, {len(comparison.cells) - len(todo)} of them done, "
        f"{comparison.jobs} at a time"
    )
    failed: dict[Cell, str] = {}
    ended = {"searches": len(comparison.cells) - len(todo), "evaluations": done}
    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("evaluations"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    bar = bars.add_task("searching", total=total, completed=done)

    def at_end(cell: Cell, status: int, seconds: float) -> None:
        ended["searches"] += 1
        ended["evaluations"] += cell.settings["evaluations"]
        text = f"[{ended['searches']}/{len(comparison.cells)}] {cell.task}: {cell.controller}, seed {cell.seed}"
        if status == 0 and folder.finished(cell):
            found = read_search(folder.run(cell), cell)
            value = "nothing feasible" if found.value is None else f"reward {found.value:.4f}"
            bars.console.print(escape(f"{text}: {value} ({seconds:.0f} s)"))
        else:
            failed[cell] = _last_line(folder.log(cell)) or f"exit status {status}"
            bars.console.print(escape(f"{text}: failed: {failed[cell]}"))

    def poll(cells: Sequence[Cell]) -> None:
        if not bars.disable:
            bars.update(bar, completed=ended["evaluations"] + sum(_evaluations(folder, cell) for cell in cells))

    try:
        with bars:
            run_cells(folder, todo, jobs=comparison.jobs, lock=lock, ended=at_end, poll=poll)
    except (KeyboardInterrupt, SystemExit):
        console.print(f"stopped; everything finished is saved. Go on with: {again}")
        raise
    return failed


def _report(comparison: Comparison, folder: Folder, console: Console, failed: dict[Cell, str]) -> None:
    ended = [cell for cell in comparison.cells if folder.finished(cell)]
    searches = [read_search(folder.run(cell), cell) for cell in ended]
    tasks = dict.fromkeys(cell.task for cell in comparison.cells)
    contests: list[Contest] = []
    for task in tasks:
        own = [search for search in searches if search.task == task]
        if any(search.controller == comparison.baseline for search in own):
            contests.append(contest(task, own, baseline=comparison.baseline))
    missing = [f"{cell.name} failed: {reason}" for cell, reason in failed.items()]
    if waiting := len(comparison.cells) - len(ended) - len(failed):
        missing.append(f"{waiting} of {len(comparison.cells)} searches have not ended yet.")
    if not contests:
        console.print(f"{folder.path}: no search of {comparison.baseline} has ended; nothing to compare with yet")
        return
    settings = yaml.safe_dump(comparison.plain, sort_keys=False)
    title = f"{comparison.name}: controllers beside random search"
    write_text(folder.html, html(contests, title=title, settings=settings, missing=missing))
    write_csv(search_rows(contests), folder.searches_csv, columns=SEARCH_COLUMNS)
    write_csv(curve_rows(contests), folder.curves_csv, columns=CURVE_COLUMNS)
    for one in contests:
        console.print(_table(one))
        for line in warnings(one):
            console.print(escape(line))
    for line in missing:
        console.print(escape(line))
    console.print(f"report: {folder.html}   tables: {folder.searches_csv}, {folder.curves_csv}")
    console.print(escape(verdict(contests)))


def _table(one: Contest) -> Table:
    """A column a controller, as a terminal is narrow."""
    headings, cells = rows(one)
    table = Table(title=one.task, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False)
    table.add_column("", no_wrap=True)
    for row in cells:
        table.add_column(escape(row[0]), justify="right", overflow="fold")
    for i, heading in enumerate(headings[1:], 1):
        table.add_row(escape(heading), *(escape(row[i]) for row in cells))
    return table


def _evaluations(folder: Folder, cell: Cell) -> int:
    """Evaluations that a search has so far."""
    try:
        text = folder.run(cell).events.read_bytes()
    except OSError:
        return 0
    return text.count(b'"kind": "evaluation"')


def _last_line(path: Path) -> str:
    try:
        lines = [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
    except OSError:
        return ""
    return lines[-1].removeprefix("rlnas: error: ") if lines else ""
