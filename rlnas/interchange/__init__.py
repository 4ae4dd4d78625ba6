"""Networks out: plain PyTorch source with weights, readable without rlnas."""

from rlnas.interchange.python import tidy, write_model

__all__ = ["tidy", "write_model"]
