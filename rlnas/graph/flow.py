"""How rows of channels pass through an op: the words in which the op table says it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "frozen",
    "elementwise",
    "layer",
    "channelwise",
    "along",
    "concat",
    "slice",
    "reshape",
    "permute",
    "matmul",
    "attention",
]


@dataclass(frozen=True)
class Flow:
    """How rows of channels pass.

    ``frozen``: unknown; nothing about the op may change size. ``elementwise``: by place, with broadcasting, so that all
    inputs are coupled. ``layer``: new channels on ``axis``, each reading all that the input has there, or with several
    ``blocks`` those of its own block. ``channelwise``: each channel on ``axis`` by itself, with tensors of its own; if
    ``pooled``, what a channel becomes depends on the statistics of its block. ``along``: works along ``axes``, which
    are lost unless ``kept``; the others pass. ``concat``, ``slice``, ``reshape``, ``permute``, ``matmul``: as their
    names say. ``attention``: as `rlnas.graph.table.attention` says.

    Attributes:
        kind: One of the above.
        axis: The axis of channels, of one sample.
        axes: Axes worked along; for a permutation its order.
        blocks: Blocks of a grouped layer, or of pooled statistics; heads of attention.
        others: True if rows on other axes pass; else they are frozen.
        pooled: True for statistics over the channels of a block.
        kept: True if the axes worked along stay.
    """

    kind: Kind
    axis: int = 0
    axes: tuple[int, ...] = ()
    blocks: int = 1
    others: bool = False
    pooled: bool = False
    kept: bool = True


FROZEN = Flow("frozen")
ELEMENTWISE = Flow("elementwise")
