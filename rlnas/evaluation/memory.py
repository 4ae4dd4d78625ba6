"""The memory that a worker process may take, held to by the operating system."""

from __future__ import annotations

import math
import resource
from pathlib import Path
from typing import Final

from rlnas.errors import EvaluationError

MEGABYTE: Final = 1_000_000
ROOM_MB: Final = 64
"""What an evaluation needs at least, beside what the process takes before it."""


class MemoryLimitError(EvaluationError):
    """A memory limit that leaves no room for an evaluation."""


def limit_memory(megabytes: float) -> None:
    """Let this process take no more memory: beyond it an allocation fails, and with it the evaluation.

    What counts is what the process may write to and shares with no other: heap, stacks of threads, anonymous maps. Code
    and mapped files do not count.

    Raises:
        MemoryLimitError: If the process takes more already, or has hardly any room left.
    """
    taken = data_mb()
    if taken + ROOM_MB > megabytes:
        least = 50 * math.ceil((taken + 2 * ROOM_MB) / 50)
        raise MemoryLimitError(
            f"memory_limit_mb={megabytes:g} is too small: a worker process takes {taken:.0f} MB before its first "
            f"evaluation; give it at least {least}"
        )
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = round(megabytes * MEGABYTE)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def data_mb() -> float:
    """What this process takes at present, in megabytes, as the limit counts it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024 / MEGABYTE
    raise MemoryLimitError("this system does not say how much memory a process takes; leave memory_limit_mb at null")
