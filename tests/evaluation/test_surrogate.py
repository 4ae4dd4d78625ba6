from __future__ import annotations

import json
import math
import pickle

import numpy as np
import pytest

from rlnas.errors import ConfigError, EvaluationError
from rlnas.evaluation import Candidate, Service, Store, SurrogateEvaluator, TrainingEvaluator
from rlnas.evaluation.surrogate import LEAST, Surrogate, graph_features
from rlnas.rewards import Reference, make_reward
from rlnas.spaces import conv_stages, nas_bench_201
from tests.evaluation.faults import library, start_network, tiny_task, widened
from tests.spaces.test_nas_bench_201 import ALL3


def made(n: int, *, noise: float, seed: int, columns: int = 6):
    """Rows of features, and accuracies that are linear in the first two but for noise."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, columns))
    y = 0.8 + 0.05 * x[:, 0] - 0.03 * x[:, 1] + noise * rng.normal(size=n)
    return [{f"f{i}": float(v) for i, v in enumerate(row)} for row in x], y.tolist()


def test_it_finds_a_linear_law() -> None:
    rows, accuracies = made(60, noise=0.001, seed=0)
    new, wanted = made(40, noise=0.0, seed=1)
    found = Surrogate(rows, accuracies).predict(new)
    assert np.abs(np.array([p.mean for p in found]) - wanted).max() < 0.002
    assert all(0.0005 < p.std < 0.003 for p in found)


def test_intervals_cover_as_often_as_they_say_and_widen_away_from_the_data() -> None:
    covered = []
    for seed in range(30):
        rows, accuracies = made(40, noise=0.01, seed=seed)
        new, wanted = made(50, noise=0.01, seed=1000 + seed)
        found = Surrogate(rows, accuracies).predict(new)
        covered += [p.interval[0] <= y <= p.interval[1] for p, y in zip(found, wanted, strict=True)]
    assert 0.86 < np.mean(covered) < 0.95  # 90 % of 1,500
    fitted = Surrogate(*made(40, noise=0.01, seed=0))
    near, far = fitted.predict([{f"f{i}": v for i in range(6)} for v in (0.0, 20.0)])
    assert far.std > 2 * near.std


def test_noise_alone_predicts_the_mean() -> None:
    rng = np.random.default_rng(3)
    rows, _ = made(50, noise=0.0, seed=3)
    accuracies = (0.5 + 0.1 * rng.normal(size=50)).tolist()
    found = Surrogate(rows, accuracies).predict(made(20, noise=0.0, seed=4)[0])
    assert all(abs(p.mean - 0.5) < 0.06 and 0.07 < p.std < 0.14 for p in found)


def test_constant_features_and_constant_accuracies_are_no_trouble() -> None:
    rows = [{"same": 1.0, "other": float(i)} for i in range(10)]
    for accuracies in ([0.5] * 10, [0.5 + i / 100 for i in range(10)]):
        (found,) = Surrogate(rows, accuracies).predict([{"same": 7.0, "other": 4.0}])
        assert math.isfinite(found.std) and found.mean == pytest.approx(accuracies[4], abs=0.005)


def test_features_are_those_of_the_graph() -> None:
    small, large = graph_features(conv_stages((1, 8, 8), 2, stages=2)), graph_features(nas_bench_201(ALL3))
    assert small.keys() == large.keys() and all(math.isfinite(v) for v in (*small.values(), *large.values()))
    assert small["log conv"] == pytest.approx(math.log(3)) and small["log kernel 3"] == pytest.approx(math.log(3))
    assert small["log depthwise"] == 0 < large["log merge"]


@pytest.mark.parametrize("n", [0, LEAST - 1])
def test_too_little_to_learn_from_is_said(n: int) -> None:
    rows, accuracies = made(n, noise=0.1, seed=0)
    with pytest.raises(EvaluationError, match=f"at least {LEAST} networks"):
        Surrogate(rows, accuracies)


def test_what_is_not_finite_is_refused() -> None:
    rows, accuracies = made(10, noise=0.1, seed=0)
    with pytest.raises(EvaluationError, match="not finite"):
        Surrogate(rows, [*accuracies[:-1], math.nan])


def test_it_learns_from_a_store_and_predicts_behind_the_interface() -> None:
    task, start = tiny_task(), start_network()
    service = Service(TrainingEvaluator(task, epochs=0.3), task, starts=library(start), store=Store())
    batch = widened(start, 9)
    service.evaluate(batch[:8], seed=0)
    service.evaluate(batch[:1], seed=1)  # once more: the graph counts once, with its mean
    recipe = service.evaluator.recipe
    surrogate = Surrogate.of_records(service.store.rows(), task_key=task.key, recipe=recipe)
    assert surrogate.n == 8
    for other in ({"task_key": "x", "recipe": recipe}, {"task_key": task.key, "recipe": "x"}):
        with pytest.raises(EvaluationError, match="there are 0"):
            Surrogate.of_records(service.store.rows(), **other)
    evaluator = SurrogateEvaluator(task, surrogate)
    (found,) = service.with_evaluator(evaluator).evaluate([batch[8]], seed=0)
    (direct,) = surrogate.predict([graph_features(batch[8].graph)])
    assert found.metrics.accuracy is None and found.metrics.scores == {
        "predicted_accuracy": direct.mean,
        "predicted_accuracy_std": direct.std,
    }
    with pytest.raises(ConfigError, match="scores are no accuracies"):
        make_reward(reference=Reference((0.9,), 1.0, 100, 100), cost="macs")(found.metrics)
    assert evaluator.deterministic and evaluator.work(start.graph) == 0
    again = Surrogate.of_records(service.store.rows(), task_key=task.key, recipe=recipe)
    assert SurrogateEvaluator(task, again).recipe == evaluator.recipe
    assert pickle.loads(pickle.dumps(evaluator)).recipe == evaluator.recipe
    service.evaluate([batch[8]], seed=0)
    more = Surrogate.of_records(service.store.rows(), task_key=task.key, recipe=recipe)
    assert SurrogateEvaluator(task, more).recipe != evaluator.recipe


def test_without_a_surrogate_it_says_what_is_missing() -> None:
    task, start = tiny_task(), start_network()
    evaluator = SurrogateEvaluator(task)
    assert json.loads(evaluator.recipe)["surrogate"] is None
    service = Service(evaluator, task, starts=library(start), store=Store())
    (found,) = service.evaluate([Candidate(start.graph, start.content_hash)], seed=0)
    assert found.status == "failed" and "needs a surrogate" in found.reason
