"""Operators that grow, prune and transform networks. A new one is a class in its family's file and a line here.

A person's own is named by its import path, and needs no line.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from rlnas.errors import OperatorError, unknown_name
from rlnas.graph import Site
from rlnas.importing import is_import_path
from rlnas.network import Applied, Network
from rlnas.operators.attention import AddHeads, WidenKeys, WidenValues
from rlnas.operators.base import CostDelta, Edit, Operator, Tensors, drift
from rlnas.operators.deepen import Deepen
from rlnas.operators.dense import DenseGrowth
from rlnas.operators.expand import ExpandInvertedResidual
from rlnas.operators.gate import AddGate
from rlnas.operators.groups import FewerGroups
from rlnas.operators.hidden import WidenHidden
from rlnas.operators.kernel import GrowKernel
from rlnas.operators.layer import InsertLayer
from rlnas.operators.own import own_operator
from rlnas.operators.path import InsertNode, ReplaceIdentity, ReplicateAdd, SplitConcat
from rlnas.operators.prune import PruneChannels
from rlnas.operators.remove import RemoveLayer
from rlnas.operators.residual import InsertResidual
from rlnas.operators.shrink_branch import RemoveBranch
from rlnas.operators.shrink_groups import MoreGroups
from rlnas.operators.shrink_heads import PruneHeads, ShrinkValues
from rlnas.operators.shrink_kernel import ShrinkKernel
from rlnas.operators.shrink_keys import ShrinkKeys
from rlnas.operators.shrink_width import PruneWidth
from rlnas.operators.skip import AddSkip
from rlnas.operators.widen import Widen

OPERATORS: dict[str, Operator] = {
    operator.name: operator
    for operator in (
        *(Widen(), Deepen(), GrowKernel(), FewerGroups()),
        *(InsertResidual(), InsertResidual("bottleneck"), InsertResidual("inverted"), AddSkip(), AddGate()),
        *(ReplicateAdd(), SplitConcat(), InsertNode(), ReplaceIdentity(), ReplaceIdentity(separable=True)),
        *(ExpandInvertedResidual(), DenseGrowth()),
        *(AddHeads(), WidenValues(), WidenKeys(), WidenHidden(), InsertLayer()),
        *(PruneChannels(), *map(PruneChannels, ("magnitude", "batch_norm_scale", "taylor")), PruneWidth()),
        *(RemoveLayer(), RemoveBranch(), ShrinkKernel(), MoreGroups()),
        *(PruneHeads(), ShrinkValues(), ShrinkKeys()),
    )
}
"""All operators by name."""


def get_operator(name: str) -> Operator:
    """The operator of that name, or the one that an import path names.

    Raises:
        ConfigError: If the import path leads to no operator.
        OperatorError: If there is none of that name; the message lists all.
    """
    if name in OPERATORS:
        return OPERATORS[name]
    if is_import_path(name):
        return own_operator(name)
    raise OperatorError(unknown_name("operator", name, OPERATORS))


def apply_sites(
    network: Network, sites: Iterable[Site], *, generator: torch.Generator, calibration: Tensor | None = None
) -> Network:
    """Apply a sequence of edits, one after the other.

    Raises:
        OperatorError: If one of them does not apply.
    """
    for site in sites:
        network = get_operator(site.operator).apply(network, site, generator=generator, calibration=calibration)
    return network


__all__ = [
    "OPERATORS",
    "Applied",
    "CostDelta",
    "Edit",
    "Operator",
    "Site",
    "Tensors",
    "apply_sites",
    "drift",
    "get_operator",
]
