"""What every kind of run begins with: its directory, its searches, and a tracker that is closed whatever happens."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from rlnas.cli.config import SearchSettings
from rlnas.cli.parse import flat
from rlnas.cli.stages import last_offset
from rlnas.runs import RunDirectory, fingerprint
from rlnas.tracking import TeeTracker, make_tracker, resolve_mode


def new_run(settings: SearchSettings, plain: dict[str, Any], *, stem: str) -> RunDirectory:
    """Make the run's directory; under a sweep agent it is named after the agent's run.

    Paths in its configuration are absolute, for a run may be resumed from another folder.

    Raises:
        RunError: If it exists already or cannot be written.
    """
    agent_run = os.environ.get("WANDB_RUN_ID") if os.environ.get("WANDB_SWEEP_ID") else None
    name = settings.run.name or (f"{stem}-{agent_run}" if agent_run else None)
    if settings.controller.init_from is not None:
        plain["controller"]["init_from"] = str(Path(settings.controller.init_from).absolute())
    return RunDirectory.create(settings.run.root, name, stem=stem, config=plain)


def searches_of(settings: SearchSettings) -> dict[str, str]:
    """Names of the controllers of a run by the names of its searches: the controller's own, and random search."""
    searches = {"controller": settings.controller.name}
    if settings.final.random_baseline and settings.controller.name != "random":
        searches["random"] = "random"
    return searches


@contextmanager
def tracked(
    run: RunDirectory, settings: SearchSettings, plain: dict[str, Any], console: Console
) -> Iterator[TeeTracker]:
    """The tracker of a run; who stops it is told how to go on."""
    tracker = make_tracker(
        run.path,
        mode=resolve_mode(settings.tracking.mode, os.environ),
        project=settings.tracking.project,
        config=flat(plain),
        offset=last_offset(run, owner=fingerprint(plain)),
    )
    try:
        yield tracker
    except (KeyboardInterrupt, SystemExit):
        console.print(f"stopped; everything finished is saved. Go on with: rlnas resume {run.path}")
        raise
    finally:
        tracker.close()
