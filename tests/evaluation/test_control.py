from __future__ import annotations

from dataclasses import replace

import pytest

from rlnas.errors import EvaluationError
from rlnas.evaluation import (
    Halving,
    Service,
    Store,
    TrainingEvaluator,
    ZeroCostEvaluator,
    evaluate_control,
    evaluate_start,
)
from rlnas.network import Network
from tests.evaluation.faults import candidates, library, start_network, tiny_task


@pytest.fixture(scope="module")
def task():
    return tiny_task()


@pytest.fixture(scope="module")
def start(task):
    return TrainingEvaluator(task, epochs=1).evaluate(start_network(), seed=0).trained


def service_of(task, *starts, epochs=1.0):
    return Service(TrainingEvaluator(task, epochs=epochs), task, starts=library(*starts), store=Store())


def test_a_control_has_the_training_of_a_candidate_and_none_of_its_edits(task, start) -> None:
    service = service_of(task, start)
    (found,) = service.evaluate(candidates(start, "widen"), seed=0)
    control = evaluate_control(service, start.content_hash, seed=0, n=3, epochs=found.metrics.epochs)
    assert (control.epochs, control.inherited_epochs) == (1.0, 1.0)
    assert control.n_params == start.graph.n_params and len(control.accuracies) == 3
    # It is the start network's own evaluation, and costs nothing beside it.
    rows = service.store.count()
    assert evaluate_start(service, start.content_hash, seed=0, n=3) == control and service.store.count() == rows


def test_it_grows_with_the_training_of_later_lineages(task, start) -> None:
    service = service_of(task, start)
    (parent,) = service.evaluate(candidates(start, "widen"), seed=0)
    later = parent.trained
    service.starts.add(later)
    (child,) = service.evaluate(candidates(later, "widen"), seed=0)
    behind = child.metrics.epochs + child.metrics.inherited_epochs
    assert behind == 3.0
    control = evaluate_control(service, start.content_hash, seed=0, n=2, total_epochs=behind)
    assert (control.epochs, control.inherited_epochs) == (2.0, 1.0)
    longer = service.with_evaluator(replace(service.evaluator, epochs=2.0))
    assert control == evaluate_start(longer, start.content_hash, seed=0, n=2)


def test_a_layer_controls_by_its_service(task, start) -> None:
    service = service_of(task, start, epochs=2.0)
    halving = Halving.of_epochs(service, rounds=2, eta=2.0)
    control = evaluate_control(halving, start.content_hash, seed=0, n=2, epochs=1.0)
    assert control == evaluate_control(service, start.content_hash, seed=0, n=2, epochs=1.0)
    assert control.epochs == 1.0


def test_what_is_no_control_is_refused(task, start) -> None:
    unknown = Network(start.graph, start.tensors)
    service = service_of(task, start)
    name = start.content_hash
    for arguments, said in (
        ({}, "either epochs or total_epochs"),
        ({"epochs": 1.0, "total_epochs": 2.0}, "either epochs or total_epochs"),
        ({"total_epochs": 1.0}, "as many already"),
        ({"epochs": 0.0}, "as many already"),
    ):
        with pytest.raises(EvaluationError, match=said):
            evaluate_control(service, name, seed=0, **arguments)
    with pytest.raises(EvaluationError, match="nobody knows"):
        evaluate_control(service_of(task, unknown), name, seed=0, total_epochs=2.0)
    with pytest.raises(EvaluationError, match="does not train"):
        evaluate_control(service.with_evaluator(ZeroCostEvaluator(task)), name, seed=0, epochs=1.0)
