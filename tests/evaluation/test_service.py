import math
from dataclasses import replace

import pytest
import torch

from rlnas.errors import EvaluationError, MeterError, StoreError
from rlnas.evaluation import (
    Candidate,
    Reference,
    Service,
    StartLibrary,
    Store,
    TrainingEvaluator,
    busy_time,
    evaluate_start,
    train_start,
)
from rlnas.operators import OPERATORS
from tests.evaluation.faults import (
    CountingMeter,
    FaultyEvaluator,
    candidates,
    library,
    start_network,
    tiny_task,
    widened,
)


@pytest.fixture(scope="module")
def task():
    return tiny_task()


@pytest.fixture(scope="module")
def start():
    return start_network()


def service(task, start, evaluator, store=None, **rest):
    return Service(evaluator, task, starts=library(start), store=store or Store(), **rest)


def results(evaluations):
    return [(e.cache_key, e.status, e.metrics) for e in evaluations]


def test_results_do_not_depend_on_order_or_company(task, start):
    evaluator = TrainingEvaluator(task, epochs=1)
    batch = candidates(start, "", "widen", "insert_residual", "prune_channels")
    together = service(task, start, evaluator).evaluate(batch, seed=0)
    backwards = service(task, start, evaluator).evaluate(batch[::-1], seed=0)[::-1]
    alone = [service(task, start, evaluator).evaluate([candidate], seed=0)[0] for candidate in batch]
    assert results(together) == results(backwards) == results(alone)
    hashes = [[e.trained.content_hash for e in run] for run in (together, backwards, alone)]
    assert hashes[0] == hashes[1] == hashes[2]
    assert len({e.cache_key for e in together}) == 4
    assert [e.trained.graph.key for e in together] == [c.graph.key for c in batch]


def test_what_is_known_is_not_trained_again(tmp_path, task, start):
    evaluator = FaultyEvaluator(folder=str(tmp_path))
    batch = candidates(start, "", "widen")
    with service(task, start, evaluator, Store(tmp_path / "s.sqlite")) as first:
        once = first.evaluate(batch, seed=0)
        assert [e.cached for e in once] == [False, False]
        again = first.evaluate(batch[::-1], seed=0)[::-1]
        assert [e.cached for e in again] == [True, True] and results(again) == results(once)
        assert first.store.count() == 2
    with service(task, start, evaluator, Store(tmp_path / "s.sqlite")) as second:
        later = second.evaluate(batch, seed=0)
        assert results(later) == results(once) and [e.trained for e in later] == [None, None]
    assert evaluator.calls() == [c.graph.key for c in batch]


def test_every_part_of_the_key_counts(task, start):
    (candidate,) = candidates(start, "widen")
    base = service(task, start, TrainingEvaluator(task))
    keys = {base.cache_key(candidate, seed=0), base.cache_key(candidate, seed=1)}
    keys.add(base.cache_key(candidates(start, "")[0], seed=0))
    keys.add(base.cache_key(replace(candidate, start_id="other"), seed=0))
    keys.add(service(tiny_task(1), start, TrainingEvaluator(task)).cache_key(candidate, seed=0))
    keys.add(service(task, start, TrainingEvaluator(task, epochs=2)).cache_key(candidate, seed=0))
    assert len(keys) == 6
    assert base.cache_key(replace(candidate, edits=()), seed=0) in keys  # how a graph came about does not count


def test_seeds_give_independent_trainings(task, start):
    (candidate,) = candidates(start, "")
    found = service(task, start, FaultyEvaluator()).evaluate([candidate] * 3, seed=[0, 1, 0])
    assert found[0].metrics == found[2].metrics != found[1].metrics
    assert [e.cached for e in found] == [False, False, True]
    with pytest.raises(EvaluationError, match="seed=-1"):
        service(task, start, FaultyEvaluator()).evaluate([candidate], seed=-1)


def test_duplicates_are_trained_once_and_the_first_defines_the_weights(tmp_path, task, start):
    evaluator = FaultyEvaluator(folder=str(tmp_path))
    widen, residual = candidates(start, "widen", "insert_residual")
    found = service(task, start, evaluator).evaluate([widen, residual, widen, widen], seed=0)
    assert len(evaluator.calls()) == 2
    assert [e.cached for e in found] == [False, False, True, True]
    assert len({e.cache_key for e in found}) == 2 and found[0].metrics == found[2].metrics == found[3].metrics
    # The same graph by other edits: here the second graph is said to come from no edits, which cannot be built.
    impostor = replace(widen, edits=())
    fine, failing = (service(task, start, FaultyEvaluator()) for _ in range(2))
    assert [e.status for e in fine.evaluate([widen, impostor], seed=0)] == ["ok", "ok"]
    assert [e.status for e in failing.evaluate([impostor, widen], seed=0)] == ["failed", "failed"]


def test_failures_are_rows_with_a_reason_and_the_rest_goes_on(task, start):
    batch = candidates(start, "", "widen", "insert_residual", "deepen")
    keys = [c.graph.key for c in batch]
    evaluator = FaultyEvaluator(dict(zip(keys[1:], ["raise", "memory", "nan"], strict=True)))
    with service(task, start, evaluator) as made:
        found = made.evaluate(batch, seed=0)
        assert [e.status for e in found] == ["ok", "failed", "failed", "failed"]
        assert [e.reason for e in found] == [
            None,
            "ValueError: something went wrong",
            "out of memory: MemoryError",
            "the training loss is not finite",
        ]
        assert [row.reason for row in made.store.rows()] == [e.reason for e in found]
        assert [e.cached for e in made.evaluate(batch, seed=0)] == [True] * 4


def test_results_are_stored_before_anyone_sees_them(task, start):
    made, seen = service(task, start, FaultyEvaluator(), meter=CountingMeter()), []

    def on_result(index, evaluation):
        row = made.store.get(evaluation.cache_key)
        assert row.metrics == evaluation.metrics and row.latency_ms is not None
        seen.append(index)

    batch = widened(start, 3)
    batch.append(batch[0])
    made.evaluate(batch, seed=0, on_result=on_result)
    assert sorted(seen) == [0, 1, 2, 3]
    made.evaluate(batch, seed=0, on_result=on_result)
    assert sorted(seen) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_the_store_knows_where_everything_came_from(task, start):
    made = service(task, start, FaultyEvaluator(), meter=CountingMeter())
    (candidate,) = candidates(start, "widen")
    (found,) = made.evaluate([candidate], seed=7)
    (row,) = made.store.rows()
    assert row.candidate.graph.key == candidate.graph.key and row.candidate.edits == candidate.edits
    assert (row.start_id, row.task_key, row.seed) == (candidate.start_id, task.key, 7)
    assert row.recipe == made.evaluator.recipe and row.worker == "inline"
    assert row.metrics == found.metrics and found.metrics.latency_ms == candidate.graph.macs * 1e-6
    assert row.training[0] <= row.training[1] <= row.measuring[0] <= row.measuring[1]
    assert made.training_intervals == [row.training] and made.measuring_intervals == [row.measuring]
    assert busy_time([row.training, row.measuring]) >= 0


class FailingMeter(CountingMeter):
    def measure(self, networks):
        raise MeterError("the device is gone")


def test_a_resumed_run_measures_only_what_is_missing(tmp_path, task, start):
    path, batch = tmp_path / "s.sqlite", widened(start, 3)
    evaluator = FaultyEvaluator({batch[2].graph.key: "raise"}, folder=str(tmp_path))
    with service(task, start, evaluator, Store(path), meter=CountingMeter()) as made:
        made.evaluate(batch[:1], seed=0)
    with (
        service(task, start, evaluator, Store(path), meter=FailingMeter()) as made,
        pytest.raises(MeterError, match="device is gone"),
    ):
        made.evaluate(batch, seed=0)
    assert len(evaluator.calls()) == 3  # all trained and stored, the meter's failure notwithstanding
    meter = CountingMeter()
    with service(task, start, evaluator, Store(path), meter=meter) as made:
        found = made.evaluate(batch, seed=0)
    assert len(evaluator.calls()) == 3
    assert meter.measured == [batch[1].graph.key] and meter.restored == {"measured": 1.0}
    assert [e.cached for e in found] == [True] * 3
    assert [e.metrics and e.metrics.latency_ms for e in found] == [c.graph.macs * 1e-6 for c in batch[:2]] + [None]


def test_latencies_of_another_meter_are_not_taken_over(task, start):
    store, (candidate,) = Store(), candidates(start, "")
    (first,) = service(task, start, FaultyEvaluator(), store, meter=CountingMeter(1e-6)).evaluate([candidate], seed=0)
    (other,) = service(task, start, FaultyEvaluator(), store, meter=CountingMeter(2e-6)).evaluate([candidate], seed=0)
    assert other.metrics.latency_ms == pytest.approx(2 * first.metrics.latency_ms)
    (plain,) = service(task, start, FaultyEvaluator(), store).evaluate([candidate], seed=0)
    assert plain.cached and plain.metrics.latency_ms is None and plain.metrics.latency_interval_ms is None


def test_trained_networks_are_kept_for_a_while_and_can_be_made_again(task, start):
    evaluator, batch = TrainingEvaluator(task, epochs=1), widened(start, 3)
    made = service(task, start, evaluator, kept=2)
    found = made.evaluate(batch, seed=0)
    kept = [made.trained(e.cache_key) for e in found]
    assert kept[0] is None and kept[1] is not None and kept[2] is not None
    assert found[0].trained is not None
    again = made.retrain(batch[0], seed=0)
    assert again.trained.content_hash == found[0].trained.content_hash
    assert again.metrics == found[0].metrics and again.cache_key == found[0].cache_key
    assert made.store.count() == 3
    assert service(task, start, evaluator, kept=0).evaluate(batch[:1], seed=0)[0].trained is None


def test_retraining_takes_the_edits_that_were_evaluated(task, start):
    made, (widen,) = service(task, start, TrainingEvaluator(task, epochs=1)), candidates(start, "widen")
    (found,) = made.evaluate([widen], seed=0)
    other_way = replace(widen, edits=(replace(widen.edits[0], anchor="elsewhere"),))  # would fail
    assert made.retrain(other_way, seed=0).trained.content_hash == found.trained.content_hash


def test_a_missing_start_network_is_an_error_and_not_a_row(task, start):
    made = Service(FaultyEvaluator(), task, starts=StartLibrary(), store=Store())
    with pytest.raises(StoreError, match="no start network"):
        made.evaluate(candidates(start, ""), seed=0)
    assert made.store.count() == 0


def test_weights_in_the_store_outlive_the_process(tmp_path, task, start):
    evaluator = FaultyEvaluator(folder=str(tmp_path))
    (candidate,) = candidates(start, "widen")
    with service(task, start, evaluator, Store(tmp_path / "s.sqlite", weights_mb=1), run="one") as first:
        (found,) = first.evaluate([candidate], seed=0)
        row = next(first.store.rows())
        assert row.weights == found.trained.content_hash and row.run == "one" and row.tries == 1
        assert row.parent == start.graph.key and '"torch"' in row.environment
        first.protect(found.cache_key)
        assert first.store.note("best one") == row.weights
    with service(task, start, evaluator, Store(tmp_path / "s.sqlite")) as second:
        (again,) = second.evaluate([candidate], seed=0)
        assert again.trained is None and second.trained(found.cache_key).content_hash == row.weights
        assert second.trained("unknown") is None
        second.store._connection.execute("UPDATE weights SET data = x'00'")
        assert second.trained(found.cache_key) is None


def test_parents_are_the_graph_before_the_last_edit(task, start):
    made = service(task, start, FaultyEvaluator({}))
    (once,) = candidates(start, "widen")
    widen = OPERATORS["widen"]
    site = widen.sites(once.graph)[-1]
    twice = Candidate(widen.edit(once.graph, site).graph, once.start_id, (*once.edits, site))
    failing = replace(candidates(start, "deepen")[0], graph=twice.graph)  # cannot be built
    made.evaluate([candidates(start, "")[0], once, twice], seed=0)
    made.evaluate([failing], seed=1)
    assert [row.parent for row in made.store.rows()] == [None, start.graph.key, once.graph.key, start.graph.key]


def test_what_another_run_stored_meanwhile_stands(tmp_path, task, start):
    """Two runs that share a store may evaluate the same network at the same time: the first result is everyone's."""
    store, (candidate,) = Store(tmp_path / "s.sqlite"), candidates(start, "widen")

    class Slower(FaultyEvaluator):
        def evaluate(self, network, *, seed):
            with service(task, start, FaultyEvaluator(), Store(tmp_path / "s.sqlite"), run="other") as other:
                other.evaluate([candidate], seed=0)
            found = super().evaluate(network, seed=seed)
            return replace(found, metrics=replace(found.metrics, accuracy=0.0))

    (found,) = service(task, start, Slower(), store, run="own").evaluate([candidate], seed=0)
    (row,) = store.rows()
    assert row.run == "other" and found.metrics == row.metrics and row.accuracy != 0.0


def test_what_is_asked_for_may_come_later(tmp_path, task, start):
    evaluator = FaultyEvaluator(folder=str(tmp_path))
    made, batch = service(task, start, evaluator), widened(start, 5)
    numbers = made.submit([*batch[:3], batch[0]], seed=0)
    assert made.in_work == 4 and not evaluator.calls()
    seen = []
    early = made.collect(lag=1, on_result=lambda number, found: seen.append(number))
    assert sorted(early) == sorted(seen) == [numbers[0], numbers[1], numbers[3]] and made.in_work == 1
    assert [early[n].cached for n in (numbers[0], numbers[3])] == [False, True]
    more = made.submit(batch[1:], seed=0)  # one known, one still in work, two new
    own = made.collect(more)
    assert sorted(own) == more and made.in_work == 1
    late = made.collect()
    assert list(late) == [numbers[2]] and made.in_work == 0 and made.collect() == {}
    assert late[numbers[2]].metrics == own[more[1]].metrics
    assert len(evaluator.calls()) == 5
    together = service(task, start, FaultyEvaluator()).evaluate(batch, seed=0)
    assert [e.metrics for e in together[1:]] == [own[n].metrics for n in more]


def test_nothing_is_in_work_while_latency_is_measured(task, start):
    batch = widened(start, 4)

    class Watching(CountingMeter):
        def measure(self, networks):
            assert not made._jobs
            return super().measure(networks)

    made = service(task, start, FaultyEvaluator(), meter=Watching())
    early = made.submit(batch[:3], seed=0)
    first = made.collect(early, lag=2, measure=False)
    assert len(first) == 1 and next(iter(first.values())).metrics.latency_ms is None
    (found,) = made.evaluate(batch[3:], seed=0)
    assert found.metrics.latency_ms == batch[3].graph.macs * 1e-6
    rest = made.collect()
    assert sorted([*first, *rest]) == early and made.in_work == 0
    assert all(e.metrics.latency_ms is not None for e in rest.values())


def test_what_is_cancelled_is_not_trained(tmp_path, task, start):
    evaluator = FaultyEvaluator(folder=str(tmp_path))
    made, batch = service(task, start, evaluator), widened(start, 3)
    made.submit(batch, seed=0)
    made.cancel()
    assert made.in_work == 0 and made.collect() == {} and not evaluator.calls()
    assert [e.status for e in made.evaluate(batch[:1], seed=0)] == ["ok"]


def test_nothing_to_do(task, start):
    assert service(task, start, FaultyEvaluator()).evaluate([], seed=0) == []


class Interrupting(FaultyEvaluator):
    def evaluate(self, network, *, seed):
        if self.behaviours.get(network.graph.key) == "interrupt":
            raise KeyboardInterrupt
        return super().evaluate(network, seed=seed)


def test_an_interrupt_leaves_what_is_finished(task, start):
    batch = widened(start, 4)
    evaluator = Interrupting({batch[2].graph.key: "interrupt"})
    with service(task, start, evaluator) as made:
        with pytest.raises(KeyboardInterrupt):
            made.evaluate(batch, seed=0)
        assert [row.graph_key for row in made.store.rows()] == [c.graph.key for c in batch[:2]]


def test_threads_and_generators_are_left_alone(task, start):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        state = torch.get_rng_state()
        service(task, start, TrainingEvaluator(task, epochs=1), meter=CountingMeter()).evaluate(
            candidates(start, "insert_residual"), seed=0
        )
        assert torch.equal(state, torch.get_rng_state()) and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_the_start_network_is_trained_and_evaluated_several_times(task, start):
    trained = train_start(start.graph, task, seed=0, epochs=4, learning_rate=0.1)
    assert train_start(start.graph, task, seed=0, epochs=4, learning_rate=0.1).content_hash == trained.content_hash
    assert train_start(start.graph, task, seed=1, epochs=4, learning_rate=0.1).content_hash != trained.content_hash
    made = service(task, trained, TrainingEvaluator(task, epochs=0.5), meter=CountingMeter())
    reference = evaluate_start(made, trained.content_hash, seed=3, n=5)
    rows = list(made.store.rows())
    assert [row.seed for row in rows] == [3, 4, 5, 6, 7] and all(row.edits == "[]" for row in rows)
    assert isinstance(reference, Reference)
    assert reference.accuracies == tuple(row.accuracy for row in rows)
    assert (reference.macs, reference.n_params) == (trained.graph.macs, trained.graph.n_params)
    assert reference.latency_ms == trained.graph.macs * 1e-6
    (found,) = made.evaluate([Candidate(trained.graph, trained.content_hash)], seed=3)
    assert found.cached


def test_a_start_network_that_fails_is_an_error(task, start):
    made = service(task, start, FaultyEvaluator({start.graph.key: "raise"}))
    with pytest.raises(EvaluationError, match="start network cannot be evaluated: ValueError"):
        evaluate_start(made, start.content_hash, seed=0)
    bright = replace(task, train=replace(task.train, inputs=task.train.inputs * math.inf))
    with pytest.raises(EvaluationError, match="start network cannot be trained: the training loss"):
        train_start(start.graph, bright, seed=0, epochs=1)
