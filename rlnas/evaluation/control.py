"""The control: the start network trained on without an edit, for as long as the networks it is compared with.

Weights that have been trained for longer are better, whatever the architecture. What an edit is worth shows only beside
the same training without it.
"""

from __future__ import annotations

from dataclasses import replace

from rlnas.errors import EvaluationError
from rlnas.evaluation.layers import Layer, full
from rlnas.evaluation.reference import evaluate_start
from rlnas.evaluation.service import Service
from rlnas.evaluation.training import TrainingEvaluator
from rlnas.rewards import Reference


def evaluate_control(
    service: Service | Layer,
    start_id: str,
    *,
    seed: int,
    n: int = 5,
    epochs: float | None = None,
    total_epochs: float | None = None,
) -> Reference:
    """Train a start network on, without an edit, with ``n`` seeds from ``seed`` upward.

    Results are stored like all others; where candidates are trained for as long, they are the start network's own
    evaluations.

    Args:
        service: Its evaluator trains, for another number of epochs where that is asked for.
        start_id: The start network: of the candidates themselves, or the ancestor of several lineages.
        epochs: Passes from the start network's weights, as many as the evaluation of a candidate took
            (`Metrics.epochs`).
        total_epochs: Passes in all, those that made the start network's weights included: as many as are behind a
            candidate of a later lineage (`Metrics.epochs` and `Metrics.inherited_epochs` together). Instead of
            ``epochs``.

    Raises:
        EvaluationError: If the evaluator does not train, nobody knows how long the start network was trained for, or it
            was trained for longer than that.
    """
    base = full(service)
    evaluator = base.evaluator
    if not isinstance(evaluator, TrainingEvaluator):
        raise EvaluationError("a control is the start network trained on, and this evaluator does not train")
    if (epochs is None) == (total_epochs is None):
        raise EvaluationError("a control needs either epochs or total_epochs")
    if total_epochs is not None:
        had = base.starts.get(start_id).epochs
        if had is None:
            raise EvaluationError(f"nobody knows how long the start network {start_id} was trained for: give epochs")
        epochs = total_epochs - had
    assert epochs is not None
    if not epochs > 0:
        raise EvaluationError(f"a control of {epochs:g} further epochs is none: the start network had as many already")
    if epochs != evaluator.epochs:
        base = base.with_evaluator(replace(evaluator, epochs=epochs))
    return evaluate_start(base, start_id, seed=seed, n=n)
