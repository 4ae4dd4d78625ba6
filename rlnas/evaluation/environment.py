"""What machine and which versions a number comes from."""

from __future__ import annotations

import json
import platform
from functools import cache
from pathlib import Path


@cache
def environment() -> str:
    """This process's machine and versions, as canonical JSON."""
    import torch

    from rlnas import __version__

    found = {
        "host": platform.node(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": _cpu(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "rlnas": __version__,
    }
    return json.dumps(found, sort_keys=True)


def _cpu() -> str:
    """Name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
