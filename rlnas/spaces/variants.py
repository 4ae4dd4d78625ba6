"""Edits that a space offers unless it is told otherwise."""

from __future__ import annotations

from rlnas.graph import Graph
from rlnas.spaces.morph import Variant

SHRINKING = (Variant("prune_channels", 0.25), Variant("prune_channels", 0.5), Variant("remove_layer", 1))

DEFAULT_VARIANTS = (
    Variant("widen", 1.5),
    Variant("widen", 2.0),
    Variant("deepen", 1),
    Variant("deepen", 3),
    Variant("grow_kernel", 2),
    Variant("insert_residual", 3),
    *SHRINKING,
)
"""For networks of convolutions and linear layers."""

TRANSFORMER_VARIANTS = (
    Variant("widen", 1.5),
    Variant("widen", 2.0),
    Variant("widen_hidden", 1.5),
    Variant("widen_values", 1.5),
    Variant("add_heads", 1),
    Variant("insert_layer", 1),
    Variant("insert_layer", 2),
    Variant("deepen", 1),
    Variant("insert_residual", 1),
    *SHRINKING,
)
"""For networks with attention."""


def default_variants(start: Graph) -> tuple[Variant, ...]:
    """The edits that suit a start network."""
    attends = any(node.op == "attention" for node in start.nodes)
    return TRANSFORMER_VARIANTS if attends else DEFAULT_VARIANTS
