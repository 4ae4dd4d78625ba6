"""From a candidate to a network: the edits applied to the start network's weights."""

from __future__ import annotations

import hashlib
import json

import torch
from torch import Tensor

from rlnas.errors import EvaluationError, RlnasError
from rlnas.evaluation.metrics import Candidate
from rlnas.graph import Graph
from rlnas.latency import torch_threads
from rlnas.network import Network
from rlnas.operators import apply_sites, get_operator
from rlnas.tasks import Task


def fresh_network(graph: Graph, *, seed: int) -> Network:
    """A network with weights of its own; the same seed gives the same in every process."""
    with torch_threads(1):
        return Network.initialize(graph, generator=torch.Generator().manual_seed(seed))


def untrained(candidate: Candidate, start: Network, task: Task, *, seed: int) -> Network:
    """The network that an evaluation begins with: with weights of its own, or those that it inherits.

    Args:
        seed: Of the training.
    """
    return fresh_network(candidate.graph, seed=seed) if candidate.fresh else build(candidate, start, task)


def build(candidate: Candidate, start: Network, task: Task) -> Network:
    """Apply a candidate's edits; the same candidate gives the same weights in every process.

    Args:
        task: Its first training inputs serve operators that compensate.

    Raises:
        EvaluationError: If the start network is another one, or the edits do not lead to the candidate's graph.
        OperatorError: If an edit does not apply.
    """
    return build_with_parent(candidate, start, task)[0]


def build_with_parent(candidate: Candidate, start: Network, task: Task) -> tuple[Network, str | None]:
    """What `build` gives, and the canonical hash of the graph that the last edit was made to; None without edits."""
    if start.content_hash != candidate.start_id:
        raise EvaluationError(f"the candidate starts from {candidate.start_id}, not from {start.content_hash}")
    generator = torch.Generator().manual_seed(edit_seed(candidate))
    # Copies have the same strides and alignment wherever the tensors came from; sums round differently with others.
    fresh = start.with_tensors({name: plain_copy(tensor) for name, tensor in start.tensors.items()})
    with torch_threads(1):
        calibration = plain_copy(task.calibration())
        parent = apply_sites(fresh, candidate.edits[:-1], generator=generator, calibration=calibration)
        network = apply_sites(parent, candidate.edits[-1:], generator=generator, calibration=calibration)
    if network.graph.key != candidate.graph.key:
        edits = ", ".join(map(str, candidate.edits)) or "no edits"
        raise EvaluationError(f"{edits} lead to the graph {network.graph.key}, not to {candidate.graph.key}")
    return network, parent.graph.key if candidate.edits else None


def parent_key(candidate: Candidate, start: Graph) -> str | None:
    """Canonical hash of the graph that a candidate's last edit was made to; None without edits, or if they fail."""
    if not candidate.edits:
        return None
    graph = start
    try:
        for site in candidate.edits[:-1]:
            graph = get_operator(site.operator).edit(graph, site).graph
    except RlnasError:
        return None
    return graph.key


def check_fits(graph: Graph, task: Task) -> None:
    """Raise if a network does not go from a task's inputs to its classes.

    Raises:
        EvaluationError: If it does not.
    """
    if graph.input_shape != tuple(task.input_shape) or graph.output_shape != (task.n_classes,):
        raise EvaluationError(
            f"a network from {graph.input_shape} to {graph.output_shape} does not fit the task {task.name!r}, "
            f"which goes from {tuple(task.input_shape)} to {(task.n_classes,)}"
        )


def plain_copy(tensor: Tensor) -> Tensor:
    """A row-major copy in memory of its own."""
    return tensor.detach().clone(memory_format=torch.contiguous_format)


def edit_seed(candidate: Candidate) -> int:
    """Seed of the random numbers that the edits draw: it depends on the start network and the edits only."""
    # An amount of 2 and one of 2.0 are the same edit, and JSON would tell them apart.
    edits = [[site.operator, site.anchor, site.target, float(site.amount)] for site in candidate.edits]
    return seed_from(json.dumps([candidate.start_id, edits]))


def seed_from(text: str) -> int:
    """A seed of 63 bits."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
