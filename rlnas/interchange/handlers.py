"""What writes down each function of PyTorch that is known."""

from rlnas.interchange import arithmetic, attending, moving, reducing
from rlnas.interchange.calls import HANDLERS

FILES = (arithmetic, attending, moving, reducing)
"""Files that fill the table, by being loaded."""

__all__ = ["FILES", "HANDLERS"]
