"""Checks of what was evaluated: exact operators keep the function, and evaluating once more gives the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

import torch
from torch import Tensor

from rlnas.evaluation.build import edit_seed, plain_copy
from rlnas.evaluation.halving import Halving
from rlnas.evaluation.layers import Layer, full
from rlnas.evaluation.metrics import Candidate, Evaluation, Evaluator, evaluator_of
from rlnas.evaluation.records import Record
from rlnas.evaluation.service import Service
from rlnas.graph import Site
from rlnas.latency import torch_threads
from rlnas.network import Network
from rlnas.operators import get_operator
from rlnas.tasks import Task

EXACT: Final = 1e-12
"""Largest difference of the outputs, relative to the largest of them, that an exact operator may make in float64."""
INPUTS: Final = 64


@runtime_checkable
class Noisy(Protocol):
    """An evaluator that is not deterministic and says how far its accuracies vary."""

    @property
    def noise(self) -> float:
        """Largest difference to be expected between two accuracies of one network under one seed."""
        ...


@dataclass(frozen=True)
class Kept:
    """What one edit of a lineage did to the function.

    Attributes:
        site: The edit.
        exact: True if its operator should keep the function.
        change: Largest relative difference of the outputs, in eval mode or training mode; None if the operator need not
            keep them.
    """

    site: Site
    exact: bool
    change: float | None

    @property
    def ok(self) -> bool:
        """False if it should have kept the function and did not."""
        return self.change is None or self.change <= EXACT


def check_lineage(candidate: Candidate, start: Network, task: Task) -> list[Kept]:
    """Apply a candidate's edits to its start network in float64, and compare the outputs before and after each.

    Args:
        task: Its first training inputs are the inputs.

    Raises:
        OperatorError: If an edit does not apply.
    """
    network = start.to(torch.float64)
    generator = torch.Generator().manual_seed(edit_seed(candidate))
    found = []
    with torch_threads(1):
        calibration = plain_copy(task.calibration())
        calibration = calibration.double() if calibration.is_floating_point() else calibration
        inputs = calibration[:INPUTS]
        for site in candidate.edits:
            operator = get_operator(site.operator)
            after = operator.apply(network, site, generator=generator, calibration=calibration)
            found.append(Kept(site, operator.exact, change(network, after, inputs) if operator.exact else None))
            network = after
    return found


def change(before: Network, after: Network, inputs: Tensor) -> float:
    """Largest difference of two networks' outputs, relative to the largest output.

    In eval mode, and where nothing in them is random, in training mode.
    """
    old, new = before.module(), after.module()
    random = any("dropout" in node.op for network in (before, after) for node in network.graph.nodes)
    largest = 0.0
    with torch.no_grad():
        for training in (False,) if random else (False, True):
            a, b = old.train(training)(inputs), new.train(training)(inputs)
            largest = max(largest, float((a - b).abs().max() / a.abs().max().clamp_min(1e-30)))
    return largest


def services_by_recipe(service: Service | Layer) -> dict[str, Service]:
    """The services that evaluate a search's candidates, by the recipe that their records say."""
    found: dict[str, Service] = {}
    layer: Service | Layer = service
    while isinstance(layer, Layer):
        if isinstance(layer, Halving):
            found |= {one.evaluator.recipe: one for one in layer.rungs}
        layer = layer.inner
    return found | {full(service).evaluator.recipe: full(service)}


def recipe_for(service: Service, candidate: Candidate) -> str:
    """The recipe by which a service evaluates a candidate, the candidate's own settings included."""
    return evaluator_of(service.evaluator, candidate).recipe


def tolerance(evaluator: Evaluator) -> float | None:
    """How far two accuracies of one network may be apart: 0 if the evaluator is deterministic; None if nobody says."""
    if evaluator.deterministic:
        return 0.0
    return float(evaluator.noise) if isinstance(evaluator, Noisy) else None


def evaluate_again(service: Service, records: Sequence[Record]) -> list[Evaluation]:
    """Evaluate stored networks once more, whatever a store knows; latency is not measured.

    Args:
        service: With an empty store.
    """
    again = service.with_evaluator(service.evaluator, measure=False)
    return again.evaluate([record.candidate for record in records], seed=[record.seed for record in records])


def compare(record: Record, again: Evaluation, *, tolerance: float) -> str | None:
    """How an evaluation differs from the one stored, in half a sentence; None if it does not.

    Args:
        tolerance: How far the accuracies may be apart.
    """
    metrics = again.metrics
    if metrics is None:
        return f"failed this time: {again.reason}"
    if metrics.accuracy is None or record.accuracy is None:
        same = metrics.accuracy == record.accuracy
    else:
        same = abs(metrics.accuracy - record.accuracy) <= tolerance
    if not same:
        return f"accuracy {metrics.accuracy}, stored {record.accuracy}"
    if metrics.epochs != record.epochs:
        return f"trained for {metrics.epochs} epochs, stored {record.epochs}"
    return None
