import json
import random
from statistics import median

import pytest

from rlnas.latency import Latency, median_interval


def test_interval_of_thirty_lies_between_the_tenth_and_the_twenty_first():
    values = list(range(1, 31))
    random.Random(0).shuffle(values)
    assert median_interval(values) == (10.0, 21.0)  # binomial(30, 1/2): P(< 10) = 0.0214, P(< 11) = 0.0494


def test_interval_of_few_values_is_their_range():
    assert median_interval([3.0, 1.0, 2.0]) == (1.0, 3.0)
    assert median_interval([7.0]) == (7.0, 7.0)


def test_interval_covers_the_median_as_often_as_it_says():
    random_ = random.Random(1)
    hits = 0
    for _ in range(1000):
        low, high = median_interval([random_.expovariate(1.0) for _ in range(31)])
        hits += low <= 0.6931 <= high
    assert 940 <= hits <= 985  # 95 % at least; 97.1 % for this number of values


def test_outliers_do_not_move_the_latency():
    samples = [1.0 + 0.001 * i for i in range(30)]
    spoiled = samples[:20] + [50.0 * i for i in range(1, 11)]
    assert Latency.from_samples(spoiled).ms == pytest.approx(median(samples), rel=0.01)
    assert Latency.from_samples(samples).n == 30


def test_json_and_back():
    latency = Latency(1.5, 1.0, 2.0, 40, ("busy machine",))
    assert Latency.from_json(json.loads(json.dumps(latency.to_json()))) == latency
    assert "warnings" not in Latency(1.5, 1.0, 2.0, 40).to_json()


@pytest.mark.parametrize("wrong", [{"ms": 0}, {"ms": 3}, {"low_ms": -1}, {"n": 0}, {"high_ms": "inf"}, {"ms": "nan"}])
def test_what_is_no_latency_is_refused(wrong):
    with pytest.raises(ValueError, match="no latency"):
        Latency.from_json({"ms": 1.5, "low_ms": 1.0, "high_ms": 2.0, "n": 40} | wrong)
