"""What environments and controllers agree on: names and sizes of observation entries, and the numbering of actions.

An observation is a flat dict of one-dimensional arrays:

=============== ==================== ==========================================================================
entry           size                 meaning
=============== ==================== ==========================================================================
``nodes``       slots x n_features   row-major; one row a node in canonical order, or one row a decision
``node_mask``   slots                1 where the slot holds a node or a decision, then zeros
``context``     n_context            the episode as a whole
``action_mask`` 1 + slots x variants 1 where the action is legal (MultiBinary)
=============== ==================== ==========================================================================

Action 0 is STOP. In a space of edits, action ``1 + slot * variants + variant`` applies the space's ``variant`` at the
node in ``slot``, and the columns are `NODE_FEATURES` and `CONTEXT_FEATURES`. In a space of decisions it takes choice
number ``variant`` for the decision in ``slot``, and the columns are `decision_features` and `DECISION_CONTEXT`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

OP_FAMILIES: Final = (
    "input",
    "conv",
    "depthwise",
    "linear",
    "embedding",
    "norm",
    "activation",
    "pool",
    "merge",
    "attention",
    "other",
)

NODE_FEATURES: Final = (
    *(f"is_{family}" for family in OP_FAMILIES),
    "log_channels",
    "log_area",
    "kernel",
    "stride",
    "log_n_params",
    "log_macs",
    "position",
    "n_consumers",
    "is_output",
    "input_0_distance",
    "input_1_distance",
)
"""Per-node entries, all within [-1, 1]; ``input_k_distance`` is the share of all slots between a node and its input."""

CONTEXT_FEATURES: Final = ("steps_left", "log_macs", "log_n_params", "log_peak_memory", "headroom", "nodes")
"""Per-episode entries of a space of edits, all within [-1, 1]; the costs are relative to the start network's."""

WAVES: Final = (0.5, 1.0, 2.0)
"""Sines and cosines of a decision's place turn so many times from the first decision to the last."""

DECISION_FEATURES: Final = (
    "is_decided",
    "is_current",
    "place",
    *(f"place_{wave}_{turns:g}" for turns in WAVES for wave in ("sin", "cos")),
)
"""Per-decision entries before the one-hot of the choice, all within [-1, 1]."""

DECISION_CONTEXT: Final = ("steps_left", "decided", "feasible", "feasible_here")
"""Per-episode entries of a space of decisions, all within [0, 1]."""

STOP: Final = 0


def decision_features(variants: int) -> tuple[str, ...]:
    """Per-decision entries where no decision has more than so many choices."""
    return (*DECISION_FEATURES, *(f"is_choice_{choice}" for choice in range(variants)))


@dataclass(frozen=True)
class Layout:
    """Sizes of the observation entries and of the action space of one environment.

    Attributes:
        slots: Nodes, or decisions, that an observation has room for.
        variants: Length of the space's list of (operator, amount), or most choices of any decision.
        n_features: Columns that describe a slot.
        n_context: Entries that describe the episode.
        names: What each variant is, in order, where the space says; layouts are equal whatever they are called.
    """

    slots: int
    variants: int
    n_features: int = len(NODE_FEATURES)
    n_context: int = len(CONTEXT_FEATURES)
    names: tuple[str, ...] = field(default=(), compare=False)

    @property
    def n_actions(self) -> int:
        """Actions: STOP and one for each (slot, variant)."""
        return 1 + self.slots * self.variants

    @property
    def sizes(self) -> dict[str, int]:
        """Length of each observation entry."""
        return {
            "nodes": self.slots * self.n_features,
            "node_mask": self.slots,
            "context": self.n_context,
            "action_mask": self.n_actions,
        }

    @classmethod
    def from_sizes(
        cls, *, node_mask: int, action_mask: int, nodes: int | None = None, context: int | None = None
    ) -> Layout:
        """Recover the layout from the lengths of observation entries.

        Args:
            nodes: Length of that entry; a space of edits by default.
            context: Length of that entry; a space of edits by default.
        """
        features = len(NODE_FEATURES) if nodes is None else nodes // node_mask
        variants = (action_mask - 1) // node_mask
        return cls(node_mask, variants, features, len(CONTEXT_FEATURES) if context is None else context)

    def action(self, slot: int, variant: int) -> int:
        """Number of the action that applies ``variant`` at ``slot``."""
        assert 0 <= slot < self.slots and 0 <= variant < self.variants
        return 1 + slot * self.variants + variant

    def slot_and_variant(self, action: int) -> tuple[int, int]:
        """Inverse of `action`; STOP has neither."""
        assert 0 < action < self.n_actions
        return divmod(action - 1, self.variants)
