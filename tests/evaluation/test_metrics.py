import json

import pytest

from rlnas.errors import EvaluationError
from rlnas.evaluation import Candidate, Metrics, busy_time
from rlnas.evaluation.metrics import one_line
from rlnas.latency import Latency
from tests.evaluation.faults import candidates, start_network


@pytest.mark.parametrize("latency", [None, Latency(0.2, 0.1, 0.3, 30)])
def test_metrics_survive_json(latency):
    metrics = Metrics(0.91, 10, 20, 30, 1.5).with_latency(latency)
    again = Metrics.from_json(json.loads(json.dumps(metrics.to_json())))
    assert again == metrics and again.cost_s == 1.5
    assert again.latency_interval_ms == (None if latency is None else (0.1, 0.3))


def test_the_clock_takes_no_part_in_comparisons():
    assert Metrics(0.9, 1, 2, 3, cost_s=1.0) == Metrics(0.9, 1, 2, 3, cost_s=2.0)
    assert Metrics(0.9, 1, 2, 3, cost_s=1.0) != Metrics(0.8, 1, 2, 3, cost_s=1.0)


def test_candidates_survive_json():
    for candidate in candidates(start_network(), "", "widen", "insert_residual"):
        again = Candidate.from_json(json.loads(json.dumps(candidate.to_json())))
        assert again.graph.key == candidate.graph.key
        assert (again.start_id, again.edits) == (candidate.start_id, candidate.edits)


def test_what_is_no_candidate_is_refused():
    with pytest.raises(EvaluationError, match="not a candidate"):
        Candidate.from_json({"graph": {}, "start_id": "x"})


def test_reasons_become_one_line():
    assert one_line(ValueError("a\n  b")) == "ValueError: a b"
    assert one_line(MemoryError()) == "MemoryError"
    assert len(one_line("x" * 1000)) == 300


def test_busy_time_is_the_length_of_the_union():
    assert busy_time([]) == 0
    assert busy_time([(0, 2), (1, 3), (1.5, 2), (5, 6)]) == pytest.approx(4)
    assert busy_time([(5, 6), (0, 10)]) == pytest.approx(10)
