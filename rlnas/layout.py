"""What environments and controllers agree on: names and sizes of observation entries, and the numbering of actions.

An observation is a flat dict of one-dimensional arrays:

=============== ============================ =======================================================
entry           size                         meaning
=============== ============================ =======================================================
``nodes``       slots x len(NODE_FEATURES)   row-major; one row a node, in canonical order
``node_mask``   slots                        1 where the slot holds a node, then zeros
``context``     len(CONTEXT_FEATURES)        the episode: steps left, cost beside the start network's
``action_mask`` 1 + slots x variants         1 where the action is legal (MultiBinary)
=============== ============================ =======================================================

Action 0 is STOP; action ``1 + slot * variants + variant`` applies the space's ``variant`` at the node in ``slot``.
"""

from __future__ import annotations

from dataclasses import dataclass
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
"""Per-episode entries, all within [-1, 1]; the costs are relative to the start network's."""

STOP: Final = 0


@dataclass(frozen=True)
class Layout:
    """Sizes of the observation entries and of the action space of one environment.

    Attributes:
        slots: Nodes that an observation has room for.
        variants: Length of the space's list of (operator, amount).
    """

    slots: int
    variants: int

    @property
    def n_actions(self) -> int:
        """Actions: STOP and one for each (slot, variant)."""
        return 1 + self.slots * self.variants

    @property
    def sizes(self) -> dict[str, int]:
        """Length of each observation entry."""
        return {
            "nodes": self.slots * len(NODE_FEATURES),
            "node_mask": self.slots,
            "context": len(CONTEXT_FEATURES),
            "action_mask": self.n_actions,
        }

    @classmethod
    def from_sizes(cls, *, node_mask: int, action_mask: int) -> Layout:
        """Recover the layout from the lengths of two observation entries."""
        return cls(slots=node_mask, variants=(action_mask - 1) // node_mask)

    def action(self, slot: int, variant: int) -> int:
        """Number of the action that applies ``variant`` at ``slot``."""
        assert 0 <= slot < self.slots and 0 <= variant < self.variants
        return 1 + slot * self.variants + variant

    def slot_and_variant(self, action: int) -> tuple[int, int]:
        """Inverse of `action`; STOP has neither."""
        assert 0 < action < self.n_actions
        return divmod(action - 1, self.variants)
