"""What every simplification must do, as plain functions, so that wrong ones can be shown to fail."""

from __future__ import annotations

import json

import torch

from rlnas.graph import Graph
from rlnas.network import Network
from rlnas.operators.simplify import PASSES, Finding, Simplification, simplify
from tests.graphs import reordered
from tests.operators.sameness import EXACT, drifts, make_inputs

GROWS = {"fold_batch_norm"}
"""Passes after which there may be more parameters."""


def check_same(before: Network, after: Network, *, training: bool) -> None:
    """Same outputs in eval mode, and in training mode if that is asked for and nothing is drawn."""
    drops = any(node.op.startswith("dropout") for node in before.graph.nodes)
    for mode, error in drifts(before, after, make_inputs(before.graph, 0)).items():
        if mode == "eval" or (training and not drops):
            assert error <= EXACT, f"drift {error:.1e} in {mode} mode"


def check_finding(one: Simplification, network: Network, finding: Finding) -> Network:
    """One finding by itself: exact, what it says it saves, one entry of history, nothing written into the input."""
    copies = {name: tensor.clone() for name, tensor in network.tensors.items()}
    after = one.apply(network, finding)
    assert all(torch.equal(network.tensors[name], tensor) for name, tensor in copies.items()), "wrote into its input"
    check_same(network, after, training=one.training)
    saved = (network.graph.n_params - after.graph.n_params, network.graph.macs - after.graph.macs)
    assert saved == (finding.n_params, finding.macs), f"{finding} saved {saved}"
    assert min(saved) >= 0 or (finding.simplification in GROWS and finding.macs == 0), f"{finding} made it larger"
    assert after.history[:-1] == network.history
    assert (after.history[-1].site, after.history[-1].exact) == (finding.site, True)
    assert finding.simplification == one.name and finding.nodes[0] in network.graph and finding.text in str(finding)
    assert finding.amount >= 1 and finding not in one.find(after), f"{finding} is found again"
    assert Graph.from_json(json.loads(json.dumps(after.graph.to_json()))).key == after.graph.key
    again = Network.from_bytes(after.to_bytes())
    assert again.content_hash == after.content_hash and again.history == after.history
    return after


def check_findings(network: Network, *, training: bool = False, most: int = 1_000_000) -> list[Finding]:
    """Every finding of every pass, each by itself, and all of one pass together."""
    every: list[Finding] = []
    for kind in PASSES.values():
        one = kind(training=training)
        findings = one.find(network)
        assert findings == one.find(network)
        for finding in findings[:most]:
            check_finding(one, network, finding)
        check_same(network, one.take_out(network, findings), training=training)
        every += findings
    return every


def check_simplify(network: Network, *, training: bool = False) -> Network:
    """All of them, until nothing is left: exact, no larger, idempotent, whatever the order of the nodes."""
    found: list[Finding] = []
    after = simplify(network, training=training, report=found.append)
    check_same(network, after, training=training)
    assert after.graph.macs <= network.graph.macs
    folded = sum(min(f.n_params, 0) for f in found)
    assert after.graph.n_params <= network.graph.n_params - folded
    assert after.history[len(network.history) :] == tuple(e for e in after.history if e.site in [f.site for f in found])
    assert simplify(after, training=training).history == after.history, "found more the second time"
    mixed = simplify(Network(reordered(network.graph, 1), network.tensors, network.history), training=training)
    assert mixed.graph.key == after.graph.key and mixed.history == after.history
    assert all(torch.equal(mixed.tensors[name], tensor) for name, tensor in after.tensors.items())
    return after
