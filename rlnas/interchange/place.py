"""Where in a person's code something is called."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType

import torch
from torch import nn

OURS = str(Path(__file__).parent)
THEIRS = str(Path(torch.__file__).parent)


def place_of_call(module: nn.Module) -> str:
    """The part of a module that runs, and the file and line: `` in blocks.0 (file.py:12)``; empty if unknown."""
    frame: FrameType | None = sys._getframe(1)
    place, owner = "", ""
    while frame is not None and frame.f_code.co_name != "run_and_write_down":
        file = frame.f_code.co_filename
        if not place and not file.startswith((OURS, THEIRS)) and not file.startswith("<"):
            place = f" ({file}:{frame.f_lineno})"
        held = frame.f_locals.get("self")
        if not owner and isinstance(held, nn.Module):
            owner = next((name for name, m in module.named_modules() if m is held), "")
            owner = f" in {owner}" if owner else ""
        frame = frame.f_back
    return owner + place
