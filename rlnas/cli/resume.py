"""``rlnas resume``: go on with a run that was stopped or killed."""

from __future__ import annotations

from collections.abc import Sequence

from rlnas.cli.parse import settings_from_dict
from rlnas.errors import ConfigError
from rlnas.runs import RunDirectory


def resume(arguments: Sequence[str]) -> int:
    """Continue from the last checkpoint; returns the exit status."""
    if any(word in ("-h", "--help") for word in arguments):
        print("usage: rlnas resume RUN\n\nRUN is the directory of a run, such as runs/digits_ppo-001.")
        return 0
    if len(arguments) != 1:
        raise ConfigError("rlnas resume takes one argument: the run's directory, such as runs/digits_ppo-001")
    run, plain = RunDirectory.open(arguments[0])
    settings = settings_from_dict(plain)
    from rlnas.cli import search, tabular

    proceed = tabular.proceed if tabular.is_looked_up(settings) else search.proceed
    return proceed(run, settings, plain)
