"""Policies that read an observation of any depth and score (slot, variant) pairs."""

from rlnas.controllers.policies.attention import AttentionEncoder
from rlnas.controllers.policies.encoder import NodeEncoder
from rlnas.controllers.policies.graph import GraphEncoder
from rlnas.controllers.policies.memory_policy import MemoryPolicy
from rlnas.controllers.policies.recurrent import RecurrentEncoder
from rlnas.controllers.policies.slot_policy import ENCODERS, SlotPolicy

__all__ = [
    "ENCODERS",
    "AttentionEncoder",
    "GraphEncoder",
    "MemoryPolicy",
    "NodeEncoder",
    "RecurrentEncoder",
    "SlotPolicy",
]
