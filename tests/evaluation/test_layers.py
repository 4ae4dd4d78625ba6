"""Halving and screening: which candidates of a batch are evaluated, and how far."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace

import pytest

from rlnas.errors import ConfigError
from rlnas.evaluation import Evaluation, Metrics, Service, Store, TrainingEvaluator
from rlnas.evaluation.halving import Halving
from rlnas.evaluation.predicting import SurrogateRanker
from rlnas.evaluation.screening import ScoreRanker, Screen
from tests.evaluation.faults import CountingMeter, library, start_network, tiny_task, widened


@dataclass(frozen=True)
class Length:
    """Gives accuracies by graph key; fails where there is none. Notes what it was asked for."""

    epochs: float
    accuracies: dict
    asked: list = field(default_factory=list)
    deterministic: bool = True

    @property
    def recipe(self):
        return json.dumps({"evaluator": "length", "epochs": self.epochs})

    def work(self, graph):
        return self.epochs * graph.macs

    def evaluate(self, network, *, seed):
        key = network.graph.key
        self.asked.append(key)
        if key not in self.accuracies:
            return Evaluation.failed("no such accuracy")
        metrics = Metrics.of_graph(network.graph, accuracy=self.accuracies[key], cost_s=0.0, epochs=self.epochs)
        return Evaluation(metrics, trained=network)


class Order:
    """Ranks by number of parameters, small first; counts its calls."""

    name, recipe, deterministic = "order", "order", True

    def __init__(self, silent: bool = False) -> None:
        self.calls = 0
        self.silent = silent

    def work(self, graph):
        return 0.0

    def rank(self, candidates, *, seeds):
        self.calls += 1
        return None if self.silent else [-float(c.graph.n_params) for c in candidates]


@pytest.fixture(scope="module")
def task():
    return tiny_task()


@pytest.fixture(scope="module")
def start():
    return start_network()


def rounds(task, start, tables, *, eta=3.0, store=None, **rest):
    """A halving over evaluators with these accuracies, one a round."""
    store = store or Store()
    full = Service(Length(float(len(tables)), tables[-1]), task, starts=library(start), store=store, **rest)
    lower = [full.with_evaluator(Length(k + 1.0, table)) for k, table in enumerate(tables[:-1])]
    return Halving([*lower, full], eta=eta)


def asked(halving):
    return [len(service.evaluator.asked) for service in halving.rungs]


def test_one_in_eta_goes_on_each_time(task, start) -> None:
    batch = widened(start, 9)
    worth = {c.graph.key: i / 10 for i, c in enumerate(batch)}
    halving = rounds(task, start, [worth, worth, worth])
    found = halving.evaluate(batch, seed=0)
    assert asked(halving) == [9, 3, 1]
    assert [e.metrics.epochs for e in found] == [1.0] * 6 + [2.0] * 2 + [3.0]
    assert [e.metrics.accuracy for e in found] == [i / 10 for i in range(9)]


def test_who_goes_on_depends_on_the_last_round_alone(task, start) -> None:
    batch = widened(start, 9)
    up = {c.graph.key: i / 10 for i, c in enumerate(batch)}
    down = {key: 0.9 - value for key, value in up.items()}
    found = rounds(task, start, [up, down, up]).evaluate(batch, seed=0)
    assert [i for i, e in enumerate(found) if e.metrics.epochs == 3.0] == [6]


def test_the_order_of_the_batch_plays_no_part(task, start) -> None:
    batch = widened(start, 6)
    same = dict.fromkeys((c.graph.key for c in batch), 0.5)
    there = rounds(task, start, [same, same]).evaluate(batch, seed=0)
    back = rounds(task, start, [same, same]).evaluate(batch[::-1], seed=0)
    assert [e.metrics for e in there] == [e.metrics for e in back[::-1]]
    assert sorted(e.metrics.epochs for e in there) == [1.0] * 4 + [2.0] * 2


def test_equal_candidates_take_one_place(task, start) -> None:
    one, other, third = widened(start, 3)
    worth = {one.graph.key: 0.9, other.graph.key: 0.5, third.graph.key: 0.1}
    halving = rounds(task, start, [worth, worth])
    seen = []
    found = halving.evaluate([one, one, other, third], seed=0, on_result=lambda i, e: seen.append((i, e)))
    assert asked(halving) == [3, 1]
    assert [e.cached for e in found] == [False, True, False, False]
    assert found[0].metrics == found[1].metrics and found[0].metrics.epochs == 2.0
    assert sorted(i for i, _ in seen) == [0, 1, 2, 3] and all(found[i] == e for i, e in seen)


def test_failures_end_where_they_happen(task, start) -> None:
    batch = widened(start, 3)
    some = {batch[0].graph.key: 0.5}
    halving = rounds(task, start, [some, {}])
    found = halving.evaluate(batch, seed=0)
    assert [e.status for e in found] == ["failed"] * 3 and asked(halving) == [3, 1]
    nothing = rounds(task, start, [{}, {}])
    assert [e.status for e in nothing.evaluate(batch, seed=0)] == ["failed"] * 3 and asked(nothing) == [3, 0]
    assert rounds(task, start, [{}, {}]).evaluate([], seed=0) == []


def test_another_value_decides(task, start) -> None:
    batch = widened(start, 3)
    same = dict.fromkeys((c.graph.key for c in batch), 0.5)
    halving = rounds(task, start, [same, same], meter=CountingMeter())
    halving.value = lambda metrics: -metrics.latency_ms
    found = halving.evaluate(batch, seed=0)
    assert [e.metrics.epochs for e in found] == [2.0, 1.0, 1.0]  # the narrowest is the fastest


def test_an_interrupted_batch_goes_on_with_what_is_stored(task, start, tmp_path) -> None:
    batch = widened(start, 4)
    worth = {c.graph.key: i / 10 for i, c in enumerate(batch)}
    store = Store(tmp_path / "s.sqlite")
    first = rounds(task, start, [worth, worth], eta=2.0, store=store)

    def stop(index, evaluation):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        first.evaluate(batch, seed=0, on_result=stop)
    again = rounds(task, start, [worth, worth], eta=2.0, store=store)
    undisturbed = rounds(task, start, [worth, worth], eta=2.0)
    assert [e.metrics for e in again.evaluate(batch, seed=0)] == [
        e.metrics for e in undisturbed.evaluate(batch, seed=0)
    ]
    assert asked(again) == [0, 2]


def test_rounds_of_a_training_are_the_trainings_of_that_length(task, start) -> None:
    evaluator = TrainingEvaluator(task, epochs=2)
    service = Service(evaluator, task, starts=library(start), store=Store())
    halving = Halving.of_epochs(service, rounds=2, eta=2.0)
    batch = widened(start, 4)
    found = halving.evaluate(batch, seed=0)
    assert sorted(e.metrics.epochs for e in found) == [1.0, 1.0, 2.0, 2.0]
    stopped = next(i for i, e in enumerate(found) if e.metrics.epochs == 1.0)
    alone = service.with_evaluator(replace(evaluator, epochs=1))
    (direct,) = alone.evaluate([batch[stopped]], seed=0)
    assert direct.cached and direct.metrics == found[stopped].metrics
    # Weights: of the round in which a network stopped, kept or trained anew.
    for candidate, evaluation in zip(batch, found, strict=True):
        kept = halving.trained(evaluation.cache_key)
        assert kept is not None and kept.epochs == evaluation.metrics.epochs
        again = halving.retrain(candidate, seed=0)
        assert again.metrics == evaluation.metrics and again.trained.content_hash == kept.content_hash
    assert halving.known(batch[0], seed=0) and not halving.known(batch[0], seed=1)
    assert halving.full is service and halving.store is service.store and halving.evaluator is evaluator


@pytest.mark.parametrize(("rest", "said"), [({"rounds": 1}, "two rounds"), ({"eta": 1.0}, "eta=1.0")])
def test_halvings_that_make_no_sense_are_refused(task, start, rest: dict, said: str) -> None:
    service = Service(TrainingEvaluator(task), task, starts=library(start), store=Store())
    with pytest.raises(ConfigError, match=said):
        Halving.of_epochs(service, **rest)
    with pytest.raises(ConfigError, match="does not train"):
        Halving.of_epochs(service.with_evaluator(Length(1, {})))


# ------------------------------------------------------------------------------------------------------------- screens


def screened(task, start, ranker, *, keep=0.5, store=None, n=6):
    batch = widened(start, n)
    evaluator = Length(1.0, {c.graph.key: 0.5 for c in batch})
    service = Service(evaluator, task, starts=library(start), store=store or Store())
    return batch, evaluator, Screen(service, ranker, keep=keep)


def test_the_first_of_the_order_are_evaluated(task, start) -> None:
    batch, evaluator, screen = screened(task, start, Order())
    seen = []
    found = screen.evaluate(batch, seed=0, on_result=lambda i, e: seen.append(i))
    assert [e.status for e in found] == ["ok"] * 3 + ["screened"] * 3
    assert len(evaluator.asked) == 3 and sorted(seen) == list(range(6))
    assert found[5].metrics is None and found[5].reason == "screened out: order lets 3 of 6 networks pass"


def test_what_is_known_passes_and_counts_for_nothing(task, start) -> None:
    batch, evaluator, screen = screened(task, start, Order())
    screen.inner.evaluate(batch[4:], seed=0)
    found = screen.evaluate(batch, seed=0)
    assert [e.status for e in found] == ["ok", "ok", "screened", "screened", "ok", "ok"]
    assert [e.cached for e in found[4:]] == [True, True] and len(evaluator.asked) == 4


def test_a_decision_stands_when_the_batch_comes_again(task, start, tmp_path) -> None:
    store = Store(tmp_path / "s.sqlite")
    batch, _, screen = screened(task, start, first := Order(), store=store)
    before = screen.evaluate(batch, seed=0)
    _, evaluator, again = screened(task, start, second := Order(), store=Store(tmp_path / "s.sqlite"))
    after = again.evaluate(batch[::-1], seed=0)
    assert [e.status for e in after[::-1]] == [e.status for e in before]
    assert (first.calls, second.calls, len(evaluator.asked)) == (1, 0, 0)
    assert [e.status for e in again.evaluate(batch, seed=1)] == [e.status for e in before] and second.calls == 1


def test_a_ranker_that_cannot_tell_lets_all_pass(task, start) -> None:
    batch, _, screen = screened(task, start, Order(silent=True))
    assert [e.status for e in screen.evaluate(batch, seed=0)] == ["ok"] * 6


def test_at_least_one_passes(task, start) -> None:
    batch, _, screen = screened(task, start, Order(), keep=0.01)
    assert [e.status for e in screen.evaluate(batch, seed=0)].count("ok") == 1


@pytest.mark.parametrize("keep", [0.0, 1.0, -1])
def test_screens_that_make_no_sense_are_refused(task, start, keep: float) -> None:
    with pytest.raises(ConfigError, match="keep="):
        screened(task, start, Order(), keep=keep)


def test_screening_by_scores_goes_with_halving(task, start) -> None:
    service = Service(
        TrainingEvaluator(task, epochs=1), task, starts=library(start), store=Store(), meter=CountingMeter()
    )
    ranker = ScoreRanker(service, "az_nas", batch_size=8)
    screen = Screen(Halving.of_epochs(service, rounds=2, eta=2.0), ranker, keep=0.5)
    batch = widened(start, 8)
    found = screen.evaluate(batch, seed=0)
    statuses = [e.status for e in found]
    assert statuses.count("screened") == 4 and statuses.count("ok") == 4
    assert sorted(e.metrics.epochs for e in found if e.metrics) == [0.5, 0.5, 1.0, 1.0]
    scores = ranker.rank(batch, seeds=[0] * 8)
    assert min(s for s, e in zip(scores, found, strict=True) if e.metrics) > max(
        s for s, e in zip(scores, found, strict=True) if not e.metrics
    )
    kinds = [json.loads(row.recipe)["evaluator"] for row in service.store.rows()]
    assert kinds.count("zero_cost") == 8 and kinds.count("training") == 6
    assert all(row.latency_ms is None for row in service.store.rows() if "zero_cost" in row.recipe)
    assert screen.full is service and ranker.deterministic and ranker.work(start.graph) == 24 * start.graph.macs


def test_a_surrogate_learns_from_what_was_trained(task, start) -> None:
    batch = widened(start, 30)
    evaluator = Length(1.0, {c.graph.key: 0.5 + math.log(c.graph.n_params) / 40 for c in batch})
    service = Service(evaluator, task, starts=library(start), store=Store())
    ranker = SurrogateRanker(service, optimism=0.0, least=10)
    screen = Screen(service, ranker, keep=0.5)
    learnt = batch[::3]
    assert [e.status for e in screen.evaluate(learnt, seed=0)] == ["ok"] * 10  # it knows nothing yet
    new = [c for c in batch if c not in learnt][5:15]
    found = screen.evaluate(new, seed=0)
    passed = {c.graph.n_params for c, e in zip(new, found, strict=True) if e.status == "ok"}
    assert passed == set(sorted(c.graph.n_params for c in new)[5:])  # the widest, which have the best accuracies
    assert not ranker.deterministic


@pytest.mark.parametrize("arguments", [{"optimism": -1}, {"least": 2}])
def test_surrogate_rankers_that_make_no_sense_are_refused(task, start, arguments: dict) -> None:
    service = Service(Length(1.0, {}), task, starts=library(start), store=Store())
    with pytest.raises(ConfigError, match=next(iter(arguments))):
        SurrogateRanker(service, **arguments)


def test_layers_declare_what_they_cost_and_whether_they_can_be_repeated(task, start) -> None:
    graph = start.graph
    halving = rounds(task, start, [{}, {}, {}], eta=2.0)
    assert halving.work(graph) == graph.macs * (1 + 2 / 2 + 3 / 4) and halving.deterministic
    screen = Screen(halving, Order(), keep=0.25)
    assert screen.work(graph) == halving.work(graph) / 4 and screen.deterministic
    learning = Screen(halving.full, SurrogateRanker(halving.full), keep=0.5)
    assert learning.work(graph) == 3 * graph.macs / 2 and not learning.deterministic
    noisy = halving.full.with_evaluator(Length(1.0, {}, deterministic=False))
    assert not Halving([noisy, halving.full]).deterministic
