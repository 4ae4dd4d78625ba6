from __future__ import annotations

import json
import pickle
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from rlnas.errors import ConfigError, EvaluationError
from rlnas.evaluation import Metrics, Service, Store, TrainingEvaluator, build
from rlnas.evaluation.distillation import distilled
from rlnas.evaluation.metrics import Taught
from rlnas.evaluation.service import training_seed
from rlnas.network import Network
from rlnas.tasks import Split
from tests.evaluation.faults import candidates, library, start_network, tiny_task


@pytest.fixture(scope="module")
def task():
    return tiny_task()


@pytest.fixture(scope="module")
def teacher(task):
    return TrainingEvaluator(task, epochs=6, learning_rate=0.1).evaluate(start_network(), seed=0).trained


def test_the_loss_is_hintons(task, teacher) -> None:
    generator = torch.Generator().manual_seed(0)
    outputs, chosen = torch.randn(5, 2, generator=generator), torch.tensor([3, 9, 1, 0, 50])
    loss, targets = distilled(task.loss, task.train.targets, task.train.inputs, teacher, share=0.3, temperature=4.0)
    given = teacher.module().eval()(task.train.inputs[chosen]).detach()
    p, q = F.softmax(given / 4, dim=1), F.softmax(outputs / 4, dim=1)
    apart = (p * (p / q).log()).sum(dim=1).mean()
    wanted = 0.7 * F.cross_entropy(outputs, task.train.targets[chosen]) + 0.3 * 16 * apart
    assert torch.equal(targets, torch.arange(len(task.train))) and loss(outputs, chosen) == pytest.approx(float(wanted))


def test_labels_that_count_nothing_are_not_looked_at(task, teacher) -> None:
    wrong = replace(task, train=Split(task.train.inputs, 1 - task.train.targets))
    settings = {"epochs": 4, "learning_rate": 0.1, "teacher": teacher, "temperature": 2.0}
    fresh = start_network()
    right = TrainingEvaluator(task, distill=1.0, **settings).evaluate(fresh, seed=0)
    same = TrainingEvaluator(wrong, distill=1.0, **settings).evaluate(fresh, seed=0)
    assert right.metrics.accuracy == same.metrics.accuracy > 0.9  # chance level 0.5
    misled = TrainingEvaluator(wrong, distill=0.1, **settings).evaluate(fresh, seed=0)
    assert misled.metrics.accuracy < 0.5


def test_in_the_service_a_candidates_start_is_its_teacher(task, teacher) -> None:
    evaluator = TrainingEvaluator(task, epochs=1, distill=0.5)
    service = Service(evaluator, task, starts=library(teacher), store=Store())
    candidate = candidates(teacher, "widen")[0]
    (found,) = service.evaluate([candidate], seed=0)
    child = build(candidate, teacher, task)
    alone = replace(evaluator, teacher=teacher).evaluate(child, seed=training_seed(found.cache_key))
    assert found.metrics == alone.metrics
    assert all(torch.equal(t, alone.trained.tensors[name]) for name, t in found.trained.tensors.items())


def test_another_start_is_another_teacher(task, teacher) -> None:
    evaluator, other = TrainingEvaluator(task, distill=0.5), start_network(5)
    assert isinstance(evaluator, Taught)
    first = evaluator.taught_by(teacher)
    assert first is evaluator.taught_by(teacher) and first.teacher is teacher
    assert evaluator.taught_by(other).teacher is other
    own = replace(evaluator, teacher=other)
    assert own.taught_by(teacher) is own
    plain = TrainingEvaluator(task)
    assert plain.taught_by(teacher) is plain


def test_without_a_teacher_it_says_so(task) -> None:
    with pytest.raises(EvaluationError, match="needs a teacher"):
        TrainingEvaluator(task, distill=0.5).evaluate(start_network(), seed=0)


def test_a_teacher_that_overflows_is_refused(task) -> None:
    start = start_network()
    odd = start.with_tensors({**start.tensors, "linear1.bias": torch.full((2,), float("inf"))})
    with pytest.raises(EvaluationError, match="teacher's outputs"):
        TrainingEvaluator(task, distill=0.5, teacher=odd).evaluate(start, seed=0)


def test_recipes_name_what_distills(task, teacher) -> None:
    base = TrainingEvaluator(task)
    recipes = {
        base.recipe,
        replace(base, distill=0.5).recipe,
        replace(base, distill=0.6).recipe,
        replace(base, distill=0.5, temperature=2.0).recipe,
        replace(base, distill=0.5, teacher=teacher).recipe,
    }
    assert len(recipes) == 5 and "temperature" not in json.loads(base.recipe)
    sent = pickle.loads(pickle.dumps(replace(base, distill=0.5, teacher=teacher)))
    assert sent.recipe in recipes


@pytest.mark.parametrize("arguments", [{"distill": 1.5}, {"distill": -0.1}, {"temperature": 0}])
def test_settings_that_make_no_sense_are_refused(task, arguments: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(arguments))):
        TrainingEvaluator(task, **arguments)


def test_a_teacher_that_does_nothing_is_refused(task, teacher) -> None:
    with pytest.raises(ConfigError, match="does nothing"):
        TrainingEvaluator(task, teacher=teacher)


# ------------------------------------------------------------------------------------------------------------- lineage


def test_an_accuracy_says_how_much_training_is_behind_it(task) -> None:
    fresh = start_network()
    start = TrainingEvaluator(task, epochs=2).evaluate(fresh, seed=0).trained
    assert (fresh.epochs, start.epochs) == (0.0, 2.0)
    service = Service(TrainingEvaluator(task, epochs=1.5), task, starts=library(start), store=Store())
    (found,) = service.evaluate(candidates(start, "widen"), seed=0)
    assert (found.metrics.epochs, found.metrics.inherited_epochs) == (1.5, 2.0)
    assert found.trained.epochs == 3.5
    (again,) = service.evaluate(candidates(start, "widen"), seed=0)
    assert again.cached and again.metrics == found.metrics
    sent = Network.from_bytes(found.trained.to_bytes())
    assert sent.epochs == 3.5 and sent.content_hash == found.trained.content_hash
    assert Metrics.from_json(json.loads(json.dumps(found.metrics.to_json()))) == found.metrics


def test_nothing_is_made_up_of_weights_that_nobody_knows(task) -> None:
    fresh = start_network()
    unknown = Network(fresh.graph, fresh.tensors)
    found = TrainingEvaluator(task, epochs=1).evaluate(unknown, seed=0)
    assert (found.metrics.epochs, found.metrics.inherited_epochs, found.trained.epochs) == (1.0, None, None)
    assert Network.from_bytes(unknown.to_bytes()).epochs is None


def test_the_age_survives_files(task, tmp_path) -> None:
    start = replace(start_network(), epochs=7.0)
    start.save(tmp_path)
    assert Network.load(tmp_path).epochs == 7.0
    assert start.to(torch.float64).epochs == 7.0


def test_work_is_that_of_the_passes(task) -> None:
    graph = start_network().graph
    evaluator = TrainingEvaluator(task, epochs=2, batch_size=32)
    assert evaluator.work(graph) == graph.macs * (3 * 2 * 96 + 96 + 64)  # training, BatchNorm's statistics, scoring
