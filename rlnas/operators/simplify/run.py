"""Run simplifications until there is nothing left to find."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

from rlnas.errors import OperatorError, unknown_name
from rlnas.network import Network
from rlnas.operators.simplify.base import Finding, Simplification
from rlnas.operators.simplify.branches import MergeEqualBranches
from rlnas.operators.simplify.convolutions import MergeConvolutions
from rlnas.operators.simplify.fold import FoldBatchNorm
from rlnas.operators.simplify.identities import RemoveIdentities
from rlnas.operators.simplify.units import MergeDuplicateChannels, RemoveDeadUnits

PASSES: dict[str, type[Simplification]] = {
    kind.name: kind
    for kind in (
        FoldBatchNorm,
        RemoveIdentities,
        MergeEqualBranches,
        MergeConvolutions,
        RemoveDeadUnits,
        MergeDuplicateChannels,
    )
}
"""All simplifications by name, in the order in which they run."""


def simplify(
    network: Network,
    passes: Iterable[str] | None = None,
    *,
    training: bool = False,
    report: Callable[[Finding], object] | None = None,
) -> Network:
    """Take out all that a network can do without; it computes the same in eval mode.

    The passes run in turn until none of them finds anything. What they did is in the ``history`` of the result, an
    entry a finding, with the name of the pass in the place of an operator's.

    Args:
        passes: Names of the simplifications to use, of `rlnas.operators.simplify.PASSES`; all if not given.
        training: True to take out only what keeps the function in training mode too.
        report: Called with each finding, in words by ``str``, before it is taken out; `print`, or a list's ``append``.

    Raises:
        OperatorError: If a name is not known.
    """
    names = tuple(PASSES if passes is None else passes)
    for name in names:
        if name not in PASSES:
            raise OperatorError(unknown_name("simplification", name, PASSES))
    idle = 0
    for one in itertools.cycle([PASSES[name](training=training) for name in names]):
        findings = one.find(network)
        if report is not None:
            for finding in findings:
                report(finding)
        if findings:
            network = one.take_out(network, findings)
        idle = 0 if findings else idle + 1
        if idle == len(names):
            break
    return network
