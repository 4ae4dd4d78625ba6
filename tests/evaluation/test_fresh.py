"""Candidates with weights of their own and hyper-parameters of their own: names, rows, messages."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
import torch

from rlnas.errors import ConfigError
from rlnas.evaluation import Candidate, Service, StartLibrary, Store, TrainingEvaluator, evaluate_reference
from rlnas.evaluation.build import fresh_network
from rlnas.evaluation.jobs import Job
from rlnas.evaluation.metrics import evaluator_of
from rlnas.evaluation.service import training_seed
from rlnas.spaces import conv_stages
from rlnas.tasks import load_task

TASK = load_task("digits")
START, OTHER = (conv_stages(TASK.input_shape, TASK.n_classes, stages=1, width=width) for width in (3, 4))


@pytest.fixture
def service() -> Service:
    return Service(TrainingEvaluator(TASK, epochs=0.1), TASK, starts=StartLibrary(), store=Store())


def candidate(service: Service, **rest: Any) -> Candidate:
    """A network that has nothing of the start network."""
    start_id = service.starts.add(fresh_network(START, seed=0))
    return Candidate(OTHER, start_id, **{"fresh": True, **rest})


def test_it_travels_as_data(service: Service) -> None:
    own = candidate(service, training=(("learning_rate", 0.2), ("optimizer", "sgd")))
    assert Candidate.from_json(json.loads(json.dumps(own.to_json()))) == own
    assert Job.from_json(json.loads(json.dumps(Job(own, 3, True).to_json()))).candidate == own
    old = {name: value for name, value in own.to_json().items() if name not in ("fresh", "training")}
    assert Candidate.from_json(old) == Candidate(OTHER, own.start_id)


def test_the_name_of_an_evaluation_says_all_that_decides_it(service: Service) -> None:
    plain, fresh = candidate(service, fresh=False), candidate(service)
    rate, other = (candidate(service, training=(("learning_rate", value),)) for value in (0.05, 0.2))
    keys = [service.cache_key(c, seed=0) for c in (plain, fresh, other)]
    assert len(set(keys)) == 3
    assert service.cache_key(rate, seed=0) == keys[1]  # it is the evaluator's own
    again = service.with_evaluator(TrainingEvaluator(TASK, epochs=0.1, learning_rate=0.2))
    assert again.cache_key(fresh, seed=0) == keys[2]


def test_the_store_makes_it_again(service: Service) -> None:
    own = candidate(service, training=(("batch_size", 16), ("learning_rate", 0.2)))
    (found,) = service.evaluate([own], seed=4)
    record = service.store.get(found.cache_key)
    assert record is not None and record.candidate == own and record.parent is None
    assert json.loads(record.recipe)["batch_size"] == 16.0 and record.inherited_epochs == 0
    assert found.trained is not None
    again = service.retrain(own, seed=4).trained
    assert again is not None and again.content_hash == found.trained.content_hash
    (other,) = service.evaluate([own], seed=5)
    assert other.trained is not None and other.trained.content_hash != found.trained.content_hash


def test_an_evaluator_with_the_settings_does_the_same(service: Service) -> None:
    own = candidate(service, training=(("learning_rate", 0.2), ("momentum", 0.8)))
    (found,) = service.evaluate([own], seed=0)
    alone = TrainingEvaluator(TASK, epochs=0.1, learning_rate=0.2, momentum=0.8)
    seed = training_seed(found.cache_key)
    trained = alone.evaluate(fresh_network(OTHER, seed=seed), seed=seed).trained
    assert trained is not None and found.trained is not None
    assert all(torch.equal(trained.tensors[name], found.trained.tensors[name]) for name in trained.tensors)


def test_a_tuned_evaluator_shares_the_prepared_data() -> None:
    evaluator = TrainingEvaluator(TASK, epochs=0.1)
    tuned = evaluator.tuned({"momentum": 0.5})
    assert tuned is evaluator.tuned({"momentum": 0.5}) and tuned is not evaluator.tuned({"momentum": 0.6})
    assert tuned._training_data[0] is evaluator._training_data[0]
    assert tuned._scoring_data[0] is evaluator._scoring_data[0]
    copy: TrainingEvaluator = pickle.loads(pickle.dumps(tuned))
    assert copy.recipe == tuned.recipe and copy.momentum == 0.5
    with pytest.raises(ConfigError, match="epochs"):
        evaluator.tuned({"epochs": 4})
    with pytest.raises(ConfigError, match="momentum"):
        evaluator_of(evaluator, Candidate(START, "", training=(("momentum", 1.5),)))


def test_the_reference_may_be_fresh(service: Service) -> None:
    own = candidate(service)
    reference = evaluate_reference(service, own, seed=7, n=3)
    found = service.evaluate([own] * 3, seed=[7, 8, 9])
    assert all(evaluation.cached for evaluation in found)
    assert list(reference.accuracies) == [e.metrics.accuracy for e in found if e.metrics is not None]
    assert reference.inherited_epochs == 0 and reference.macs == OTHER.macs
