"""The network that a search starts from, where a person brings one."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from rlnas.cli.config import SearchSettings
from rlnas.cli.modules import is_specification, read_module
from rlnas.cli.reading import read_network
from rlnas.errors import ConfigError, RunError
from rlnas.network import Network
from rlnas.runs import RunDirectory
from rlnas.tasks import Task


def given_start(settings: SearchSettings, task: Task) -> Network | None:
    """The network that the settings name, its inputs being the task's; None if they name none.

    Raises:
        ConfigError: If the settings do not go together, or the module cannot be made.
        GraphError: If there is no network, it is damaged, or it cannot be taken in.
    """
    given, weights = settings.space.start, settings.space.start_weights
    if given is None:
        if weights is not None:
            raise ConfigError("space.start_weights needs the module that they are for: space.start=net.py:Net")
        if settings.evaluation.start_epochs == 0:
            raise ConfigError("evaluation.start_epochs=0 needs a trained network to start from: space.start")
        return None
    if not Path(given).exists() and is_specification(given):
        shape = ",".join(map(str, (1, *task.input_shape)))
        return read_module(given, shape=shape, weights=weights, opaque=False, seed=settings.seed)
    if weights is not None:
        raise ConfigError(f"space.start_weights is for a module such as net.py:Net; {given} has its own weights")
    return read_network(Namespace(network=given, input=None, weights=None, opaque=False))


def kept_start(run: RunDirectory, settings: SearchSettings) -> Network | None:
    """The network that a run began with.

    Raises:
        RunError: If it should be there and is not.
        GraphError: If it is damaged.
    """
    if settings.space.start is None:
        return None
    if not run.start.is_dir():
        raise RunError(f"{run.start} is missing, the network that this run started from")
    return Network.load(run.start)
