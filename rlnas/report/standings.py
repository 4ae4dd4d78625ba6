"""A comparison as a table: for a page, for a terminal, and as rows for CSV."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final

from rlnas.report.comparison import Contest, Search, Standing, anytime
from rlnas.report.statistics import Estimate, mean_interval

NONE: Final = "–"  # noqa: RUF001  (a dash for what is not known)


@dataclass(frozen=True)
class Column:
    """A column of the table: its heading, what it means, and how its cells are made."""

    heading: str
    meaning: str
    cell: Callable[[Standing], str]


WINNERS: Final = (
    Column("reward", "reward of the winner, evaluated again with fresh seeds; mean of the searches with its interval",
           lambda s: around(s.value)),
    Column("− random", "difference to random search, paired by seed; the interval",  # noqa: RUF001
           lambda s: between(s.gain)),
    Column("p", "paired sign-flip test of that difference, adjusted for the number of controllers (Holm)",
           lambda s: NONE if s.p is None else f"{s.p:.2g}"),
    Column("RI [%]", "relative improvement over random sampling: accuracy of the winner beyond the mean accuracy of "
           "the networks that random search draws, in percent of it", lambda s: around(s.improvement, 2)),
    Column("validation [%]", "accuracy of the winner on validation data, fresh seeds",
           lambda s: around(mean_of([x.accuracy for x in s.searches], 100), 2)),
    Column("test [%]", "accuracy on the test split after the final training; nobody's reward depends on it",
           lambda s: around(mean_of([x.test_accuracy for x in s.searches], 100), 2)),
    Column("regret [%]", "test accuracy of the best network of a table beyond the winner's",
           lambda s: around(mean_of([x.regret for x in s.searches], 100), 2)),
)  # fmt: skip
"""Columns about what was found."""
SEARCHES: Final = (
    Column("best found", "highest reward within the search, at equal evaluations", lambda s: around(s.at_end)),
    Column("in equal time", "highest reward when the shortest search had ended; the difference to random search",
           lambda s: around(s.at_time) + ("" if s.time_gain is None else f" ({s.time_gain.mean:+.4f})")),
    Column("distinct", "different networks, mean of the searches",
           lambda s: f"{fmean(x.distinct for x in s.searches):.1f}"),
    Column("infeasible", "evaluations that broke a limit, mean",
           lambda s: f"{fmean(x.infeasible for x in s.searches):.1f}"),
    Column("own time [s]", "time of a search that was neither training nor measuring, and for each evaluation",
           lambda s: own_time(s.searches)),
    Column("entropy", "of the policy after its first and last update, mean", lambda s: entropies(s.searches)),
)  # fmt: skip
"""Columns about how it was found."""
COLUMNS: Final = WINNERS + SEARCHES


def rows(contest: Contest, columns: Sequence[Column] = COLUMNS) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of a task's table; without the columns that nobody has."""
    cells = [[column.cell(standing) for column in columns] for standing in contest.standings]
    kept = [i for i in range(len(columns)) if any(row[i] != NONE for row in cells)]
    names = [standing.controller for standing in contest.standings]
    headings = ["controller", *(columns[i].heading for i in kept)]
    return headings, [[name, *(row[i] for i in kept)] for name, row in zip(names, cells, strict=True)]


def search_rows(contests: Sequence[Contest]) -> list[dict[str, Any]]:
    """One row a search, for CSV; under the names of `SEARCH_COLUMNS`."""
    return [
        {
            "task": s.task,
            "controller": s.controller,
            "seed": s.seed,
            "evaluations": len(s.best),
            "reward": s.reward,
            "accuracy": s.accuracy,
            "test_accuracy": s.test_accuracy,
            "regret": s.regret,
            "best_reward": s.best[-1],
            "equal_s": contest.equal_s,
            "best_reward_in_equal_s": s.best_at(contest.equal_s),
            "sampled_accuracy": s.sampled_accuracy,
            "distinct": s.distinct,
            "infeasible": s.infeasible,
            "failed": s.failed,
            "search_s": s.seconds[-1],
            "other_s": s.other_s,
            "first_entropy": None if s.entropy is None else s.entropy[0],
            "last_entropy": None if s.entropy is None else s.entropy[1],
            "late_new": s.late_new,
            "collapsed": s.collapsed,
        }
        for contest in contests
        for standing in contest.standings
        for s in standing.searches
    ]


def curve_rows(contests: Sequence[Contest]) -> list[dict[str, Any]]:
    """One row a point of the curves over evaluations, for CSV; under the names of `CURVE_COLUMNS`."""
    return [
        {
            "task": contest.task,
            "controller": standing.controller,
            "evaluations": int(x),
            "mean": e.mean,
            "low": e.interval[0] if e.interval else None,
            "high": e.interval[1] if e.interval else None,
            "searches": e.n,
        }
        for contest in contests
        for standing in contest.standings
        for x, e in anytime(standing.searches)
    ]


SEARCH_COLUMNS: Final = {
    **dict.fromkeys(("task", "controller"), "TEXT"),
    **dict.fromkeys(("seed", "evaluations"), "INTEGER"),
    **dict.fromkeys(("reward", "accuracy", "test_accuracy", "regret", "best_reward", "equal_s"), "REAL"),
    **dict.fromkeys(("best_reward_in_equal_s", "sampled_accuracy"), "REAL"),
    **dict.fromkeys(("distinct", "infeasible", "failed"), "INTEGER"),
    **dict.fromkeys(("search_s", "other_s", "first_entropy", "last_entropy", "late_new"), "REAL"),
    "collapsed": "TEXT",
}
CURVE_COLUMNS: Final = {
    **dict.fromkeys(("task", "controller"), "TEXT"),
    "evaluations": "INTEGER",
    **dict.fromkeys(("mean", "low", "high"), "REAL"),
    "searches": "INTEGER",
}


def mean_of(values: Sequence[float | None], factor: float) -> Estimate | None:
    """Mean, with its interval, of what is known."""
    known = [factor * value for value in values if value is not None]
    return mean_interval(known) if known else None


def around(estimate: Estimate | None, digits: int = 4) -> str:
    """A mean and half of its interval."""
    if estimate is None:
        return NONE
    half = "" if estimate.interval is None else f" ± {(estimate.interval[1] - estimate.interval[0]) / 2:.{digits}f}"
    return f"{estimate.mean:.{digits}f}{half}"


def between(estimate: Estimate | None) -> str:
    """A difference and its interval."""
    if estimate is None:
        return NONE
    ends = "" if estimate.interval is None else f" [{estimate.interval[0]:+.4f}, {estimate.interval[1]:+.4f}]"
    return f"{estimate.mean:+.4f}{ends}"


def own_time(searches: Sequence[Search]) -> str:
    """Seconds of a search, and milliseconds of an evaluation, that were the controller's and its surroundings'."""
    whole, each = fmean(s.other_s for s in searches), fmean(1000 * s.other_s / len(s.best) for s in searches)
    return f"{whole:.1f} ({each:.0f} ms each)"


def entropies(searches: Sequence[Search]) -> str:
    """Entropy at both ends."""
    known = [s.entropy for s in searches if s.entropy is not None]
    return f"{fmean(e[0] for e in known):.2f} → {fmean(e[1] for e in known):.2f}" if known else NONE
