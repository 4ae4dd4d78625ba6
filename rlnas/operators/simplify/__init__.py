"""Exact simplification: parts that a network can do without, by what its weights happen to be."""

from __future__ import annotations

from rlnas.operators.simplify.base import Finding, Simplification
from rlnas.operators.simplify.branches import MergeEqualBranches
from rlnas.operators.simplify.convolutions import MergeConvolutions
from rlnas.operators.simplify.fold import FoldBatchNorm
from rlnas.operators.simplify.identities import RemoveIdentities
from rlnas.operators.simplify.run import PASSES, simplify
from rlnas.operators.simplify.units import MergeDuplicateChannels, RemoveDeadUnits

__all__ = [
    "PASSES",
    "Finding",
    "FoldBatchNorm",
    "MergeConvolutions",
    "MergeDuplicateChannels",
    "MergeEqualBranches",
    "RemoveDeadUnits",
    "RemoveIdentities",
    "Simplification",
    "simplify",
]
