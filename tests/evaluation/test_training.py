import json
import pickle
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from rlnas.errors import ConfigError, EvaluationError
from rlnas.evaluation import EVALUATORS, TrainingEvaluator, optimizers
from rlnas.graph import Graph, Node
from rlnas.graph.graph import complete
from rlnas.network import Network
from rlnas.tasks import Split
from tests.evaluation.faults import start_network, tiny_task


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def task():
    return tiny_task()


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_it_learns_and_leaves_the_network_alone(task, optimizer):
    network = start_network()
    before = {name: tensor.clone() for name, tensor in network.tensors.items()}
    rate = 0.1 if optimizer == "sgd" else 0.03
    found = TrainingEvaluator(task, epochs=6, optimizer=optimizer, learning_rate=rate).evaluate(network, seed=0)
    assert found.status == "ok" and found.metrics.accuracy > 0.9  # chance level 0.5
    assert found.metrics.latency_ms is None and found.metrics.cost_s > 0
    assert (found.metrics.n_params, found.metrics.macs) == (network.graph.n_params, network.graph.macs)
    assert same(before, network.tensors)
    assert not same(before, found.trained.tensors)


def test_same_seed_same_bits_and_another_seed_others(task):
    evaluator, network = TrainingEvaluator(task, epochs=1), start_network()
    one, two, other = (evaluator.evaluate(network, seed=seed) for seed in (1, 1, 2))
    assert one.metrics == two.metrics and same(one.trained.tensors, two.trained.tensors)
    assert not same(one.trained.tensors, other.trained.tensors)


def test_other_processes_arrive_at_the_same_bits(task):
    code = (
        "from tests.evaluation.faults import *; from rlnas.evaluation import TrainingEvaluator\n"
        "found = TrainingEvaluator(tiny_task(), epochs=1).evaluate(start_network(), seed=3)\n"
        "print(found.trained.content_hash, found.metrics.accuracy)"
    )
    found = TrainingEvaluator(pickle.loads(pickle.dumps(task)), epochs=1).evaluate(
        Network.from_bytes(start_network().to_bytes()), seed=3
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.split() == [found.trained.content_hash, str(found.metrics.accuracy)]


def test_results_depend_neither_on_global_state_nor_change_it(task):
    evaluator, network = TrainingEvaluator(task, epochs=1), with_dropout()
    torch.manual_seed(1)
    one = evaluator.evaluate(network, seed=0)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        torch.manual_seed(2)
        state = torch.get_rng_state()
        two = evaluator.evaluate(network, seed=0)
        assert torch.equal(state, torch.get_rng_state())
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert same(one.trained.tensors, two.trained.tensors)


def with_dropout():
    nodes = [
        Node.make("image", "input", shape=(1, 6, 6), dtype="float32"),
        Node.make("conv1", "conv2d", "image", out_channels=4, kernel_size=(3, 3)),
        Node.make("drop", "dropout", "conv1", p=0.3),
        Node.make("pool", "adaptive_avg_pool2d", "drop", output_size=(2, 2)),
        Node.make("flat", "flatten", "pool"),
        Node.make("head", "linear", "flat", out_channels=2),
    ]
    graph = Graph(tuple(complete(node) for node in nodes), "head")
    return Network.initialize(graph, generator=torch.Generator().manual_seed(0))


def test_dropout_is_at_work_and_seeded(task):
    evaluator = TrainingEvaluator(task, epochs=1, batch_size=96)  # one batch: the order of samples hardly matters
    with_drop = [evaluator.evaluate(with_dropout(), seed=seed).trained.tensors["conv1.weight"] for seed in (0, 1)]
    assert (with_drop[0] - with_drop[1]).abs().max() > 1e-4


def test_batch_norm_statistics_are_those_of_the_training_inputs(task):
    trained = TrainingEvaluator(task, epochs=1).evaluate(start_network(), seed=0).trained
    first = torch.nn.functional.conv2d(task.train.inputs, trained.tensors["conv1.weight"], padding=1)
    assert torch.allclose(trained.tensors["bn1.running_mean"], first.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(trained.tensors["bn1.running_var"], first.var((0, 2, 3)), rtol=1e-4)


def test_the_optimizers_do_what_torch_does(task):
    for name, make in (
        ("sgd", lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01)),
        ("adamw", lambda p: torch.optim.AdamW(p, lr=0.1, betas=(0.9, 0.999), weight_decay=0.01)),
    ):
        evaluator = TrainingEvaluator(task, optimizer=name, learning_rate=0.1, weight_decay=0.01, clip_norm=0.5)
        ours, theirs = start_network().module(), start_network().module()
        flat, reference = evaluator.schedule.make_optimizer(ours), make(theirs.parameters())
        for _ in range(5):
            for module in (ours, theirs):
                task.loss(module(task.train.inputs), task.train.targets).backward()
            torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
            flat.step(0.1)
            reference.step()
            reference.zero_grad()
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.allclose(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("convolution", "last"),
    [
        (nn.Conv2d(6, 8, 3, stride=2), True),
        (nn.Conv2d(6, 8, 1), True),
        (nn.Conv2d(16, 8, 1, stride=2), True),
        (nn.Conv2d(6, 8, (1, 2), stride=2), True),
        (nn.Conv2d(6, 8, 1, stride=2), False),
        (nn.Conv2d(6, 8, 1, stride=(1, 3)), False),
        (nn.Conv2d(32, 8, 1, stride=2, groups=4), False),
        (nn.ConvTranspose2d(16, 6, 1, stride=2), False),
    ],
    ids=str,
)
def test_no_gradient_is_asked_for_that_is_written_beyond_its_memory(task, convolution, last):
    module = nn.Sequential(nn.Conv2d(3, 6, 3), convolution)
    TrainingEvaluator(task).schedule.make_optimizer(module)
    for tensor in (module[0].weight, module[0].weight.grad):
        assert tensor.is_contiguous(memory_format=torch.channels_last) == last
        assert tensor.is_contiguous() != last


def test_both_layouts_train_alike(task, monkeypatch):
    found = []
    for answer in (False, True):
        monkeypatch.setattr(optimizers, "corrupts_memory", lambda module, answer=answer: answer)
        found.append(TrainingEvaluator(task, epochs=1).evaluate(start_network(), seed=0).trained.tensors)
    for name, tensor in found[0].items():
        assert torch.allclose(tensor, found[1][name], rtol=1e-3, atol=1e-4), name


def test_learning_rates_rise_and_fall(task):
    schedule = TrainingEvaluator(task, learning_rate=1.0, warmup=0.1, epochs=2.5).schedule
    assert schedule.steps(96) == 8 and schedule.steps(5) == 2  # 2.5 epochs of three batches; of one
    rates = schedule.learning_rates(100)
    assert len(rates) == 100 and max(rates) == 1.0 and rates.index(1.0) == 10
    assert rates[:10] == sorted(rates[:10]) and rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[0] < 0.1 and 0 < rates[-1] < 0.001


def test_diverging_training_is_a_failed_evaluation_with_a_reason(task):
    bright = replace(task, train=Split(task.train.inputs * float("inf"), task.train.targets))
    found = TrainingEvaluator(bright, epochs=1).evaluate(start_network(), seed=0)
    assert (found.status, found.metrics, found.trained) == ("failed", None, None)
    assert found.reason == "the training loss is not finite"


def test_scoring_that_is_not_finite_is_a_failure_too(task):
    odd = replace(task, validation=Split(torch.full_like(task.validation.inputs, 3e38), task.validation.targets))
    found = TrainingEvaluator(odd, epochs=1).evaluate(start_network(), seed=0)
    assert found.status == "failed" and "output" in found.reason


def test_it_trains_and_scores_on_what_it_is_told(task):
    other_test = replace(task, test=Split(task.test.inputs, 1 - task.test.targets))
    final = {"fit": "train+validation", "score": "test", "epochs": 6, "learning_rate": 0.1}
    right = TrainingEvaluator(task, **final).evaluate(start_network(), seed=0)
    wrong = TrainingEvaluator(other_test, **final).evaluate(start_network(), seed=0)
    assert right.metrics.accuracy == pytest.approx(1 - wrong.metrics.accuracy)
    search = {"epochs": 1, "score": "validation"}
    assert TrainingEvaluator(task, **search).evaluate(start_network(), seed=0).metrics == (
        TrainingEvaluator(other_test, **search).evaluate(start_network(), seed=0).metrics
    )


def test_a_network_of_another_task_is_refused(task):
    network = start_network()
    wide = replace(task, n_classes=3)
    with pytest.raises(EvaluationError, match="does not fit the task 'tiny'"):
        TrainingEvaluator(wide).evaluate(network, seed=0)


def test_every_setting_is_in_the_recipe_and_equal_settings_are_equal(task):
    base = TrainingEvaluator(task)
    changed = {
        "epochs": 1.5,
        "batch_size": 16,
        "optimizer": "adamw",
        "learning_rate": 0.3,
        "momentum": 0.5,
        "weight_decay": 0.1,
        "warmup": 0.2,
        "clip_norm": 2.0,
        "score": "test",
    }
    recipes = {replace(base, **{name: value}).recipe for name, value in changed.items()}
    recipes.add(replace(base, fit="train+validation", score="test").recipe)
    assert len(recipes | {base.recipe}) == len(changed) + 2
    assert TrainingEvaluator(task, epochs=3).recipe == TrainingEvaluator(task, epochs=3.0).recipe
    assert json.loads(base.recipe)["evaluator"] == "training"


@pytest.mark.parametrize(
    "arguments",
    [
        {"epochs": 0},
        {"epochs": float("nan")},
        {"batch_size": 0},
        {"optimizer": "adam"},
        {"learning_rate": -1},
        {"momentum": 1.0},
        {"warmup": 1.0},
        {"clip_norm": 0},
        {"fit": "test"},
        {"score": "train"},
        {"fit": "train+validation"},
    ],
)
def test_settings_that_make_no_sense_are_refused(task, arguments):
    with pytest.raises(ConfigError, match=next(iter(arguments))):
        TrainingEvaluator(task, **arguments)


def test_small_and_uneven_data(task):
    few = replace(task, train=Split(task.train.inputs[:5], task.train.targets[:5]))
    assert TrainingEvaluator(few, epochs=2).evaluate(start_network(), seed=0).status == "ok"
    uneven = replace(task, train=Split(task.train.inputs[:33], task.train.targets[:33]))
    assert TrainingEvaluator(uneven, epochs=0.5).evaluate(start_network(), seed=0).status == "ok"


def test_pickling_leaves_out_what_was_prepared(task):
    evaluator = TrainingEvaluator(task)
    before = len(pickle.dumps(evaluator))
    evaluator.evaluate(start_network(), seed=0)
    assert len(pickle.dumps(evaluator)) == before
    assert pickle.loads(pickle.dumps(evaluator)).recipe == evaluator.recipe


def test_every_registered_evaluator_says_whether_it_is_deterministic(task):
    for make in EVALUATORS.values():
        evaluator = make(task)
        assert isinstance(evaluator.deterministic, bool) and json.loads(evaluator.recipe)
