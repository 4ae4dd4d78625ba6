"""Policies that read an observation of any depth and score (slot, variant) pairs."""

from rlnas.controllers.policies.encoder import NodeEncoder
from rlnas.controllers.policies.slot_policy import SlotPolicy

__all__ = ["NodeEncoder", "SlotPolicy"]
