"""``rlnas validate``: play the episodes of a run again, and say what comes out as it was stored."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from rlnas.cli import search, tabular
from rlnas.cli.arguments import Parser, parse
from rlnas.cli.config import SearchSettings
from rlnas.cli.parse import settings_from_dict
from rlnas.cli.start import kept_start
from rlnas.cli.tally import detail_lines, table_lines
from rlnas.cli.validating import NetworkChecks, TableChecks
from rlnas.errors import ConfigError, RunError
from rlnas.evaluation import StartLibrary, Store
from rlnas.runs import RunDirectory, read_evaluations, store_path


def validate(words: Sequence[str]) -> int:
    """Check a run; returns 0 if all is as stored, 1 if something differs."""
    given = _parse(words)
    if given is None:
        return 0
    torch.set_num_threads(1)
    run, plain = RunDirectory.open(given.run)
    settings = settings_from_dict(plain)
    logged = read_evaluations(run.events) if run.events.exists() else []
    if not logged:
        raise RunError(f"{run.path} holds no episodes yet: nothing to validate")
    checks = _checks(run, plain, settings, logged)
    try:
        tallies = checks.check(logged, sample=given.sample, rng=np.random.default_rng(given.seed))
    finally:
        checks.close()
    print("\n".join([*table_lines(tallies), *detail_lines(tallies)]))
    return int(any(tally.differ for tally in tallies.values()))


def _parse(words: Sequence[str]) -> argparse.Namespace | None:
    parser = Parser(
        prog="rlnas validate",
        description="Play the episodes that a run stored again: do the actions lead to the same networks, do exact "
        "operators keep the function (in float64), and does evaluating again give the same metrics? Nothing in the "
        "run's directory is changed. Exit status 1 if something differs.",
        allow_abbrev=False,
    )
    parser.add_argument("run", metavar="RUN", help="directory of a run, such as runs/digits_ppo-001")
    parser.add_argument(
        "--sample", metavar="N", type=int, help="evaluate only N of the networks again, drawn at random; 0 for none"
    )
    parser.add_argument("--seed", metavar="S", type=int, default=0, help="what the draw depends on; 0 by default")
    given = parse(parser, words)
    if given is not None and (given.sample or 0) < 0:
        raise ConfigError(f"--sample={given.sample} must be at least 0")
    if given is not None and given.seed < 0:
        raise ConfigError(f"--seed={given.seed} must be at least 0")
    return given


def _checks(
    run: RunDirectory, plain: dict[str, Any], settings: SearchSettings, logged: Sequence[dict[str, Any]]
) -> NetworkChecks | TableChecks:
    if tabular.is_looked_up(settings):
        return TableChecks(tabular.make_table(settings))
    problem = search.problem_of(settings, search.load_the_task(settings), kept_start(run, settings), None)
    return NetworkChecks(
        problem,
        starts=StartLibrary(run.starts),
        store=Store(store_path(run, plain), read_only=True),
        first_start_id=logged[0]["start_id"],
    )
