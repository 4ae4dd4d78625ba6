"""Where evaluations are carried out, by name."""

from __future__ import annotations

from typing import Final

from rlnas.errors import ConfigError, unknown_name
from rlnas.evaluation.cluster import LOCAL, RayExecutor
from rlnas.evaluation.jobs import Executor, InlineExecutor
from rlnas.evaluation.pool import WorkerPool
from rlnas.evaluation.queue import JobLimits

BACKENDS: Final = ("processes", "ray")
"""What workers may be."""


def make_executor(
    backend: str = "processes", *, workers: int, address: str | None = None, limits: JobLimits | None = None
) -> Executor:
    """An executor; nothing is started yet.

    Args:
        backend: ``"processes"`` of this machine, or ``"ray"``.
        workers: Evaluations at the same time; 0 evaluates in this process, where no limits hold.
        address: Address of a running Ray cluster; by default one is started on this machine.
        limits: Time, memory and tries of one evaluation.

    Raises:
        ConfigError: If the settings do not go together, or Ray is not installed.
    """
    if backend not in BACKENDS:
        raise ConfigError(unknown_name("backend", backend, BACKENDS))
    if address is not None and backend != "ray":
        raise ConfigError(f"address={address!r} is a Ray cluster's: it needs backend=ray")
    if backend == "ray":
        if workers == 0:
            raise ConfigError("backend=ray needs workers: how many evaluations run at the same time")
        return RayExecutor(workers, address=address or LOCAL, limits=limits)
    if workers == 0 and limits is not None and limits.memory_limit_mb is not None:
        raise ConfigError(f"memory_limit_mb={limits.memory_limit_mb:g} needs workers: it holds for their processes")
    return WorkerPool(workers, limits=limits) if workers else InlineExecutor()
