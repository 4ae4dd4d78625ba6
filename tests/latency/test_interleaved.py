"""What meters of this machine make of samples, on a machine that is only thought of."""

from __future__ import annotations

import random

import numpy as np
import pytest

from rlnas.errors import MeterError
from rlnas.latency.samples import HALVED, Samples, correction, estimate
from tests.latency.fakes import FakeMachine, FakeMeter, network


def measured(meter: FakeMeter) -> float:
    return meter.measure([network()])[0].ms


def test_a_steady_machine_gives_the_time_itself_and_no_warning() -> None:
    meter = FakeMeter(FakeMachine())
    (latency,) = meter.measure([network()])
    assert latency.ms == pytest.approx(3.0) and latency.warnings == ()
    assert latency.low_ms == pytest.approx(3.0) and latency.high_ms == pytest.approx(3.0)
    assert latency.n == 30
    assert meter.state() == {"baseline_ms": pytest.approx(1.0), "probe_ms": pytest.approx(0.01)}


def test_a_processor_that_became_slower_is_taken_out_and_said() -> None:
    machine = FakeMachine()
    meter = FakeMeter(machine, max_time_s=0.5)
    measured(meter)
    machine.slowness = 2.0
    (latency,) = meter.measure([network()])
    assert latency.ms == pytest.approx(3.0, rel=HALVED / 2 + 1e-3)
    assert len(latency.warnings) == 1 and latency.warnings[0].startswith("slow processor: 50 % of its speed")


@pytest.mark.parametrize("drift", [0.9995, 1.0005])
def test_drift_of_the_machine_cancels_out(drift: float) -> None:
    machine = FakeMachine()
    meter = FakeMeter(machine, max_time_s=0.3)
    measured(meter)
    machine.drift = drift
    assert [measured(meter) for _ in range(5)] == pytest.approx([3.0] * 5, rel=HALVED / 2 + 0.01)
    assert not 0.9 < machine.slowness < 1.1


def test_half_of_a_small_drift_is_taken_out_and_all_of_what_is_beyond() -> None:
    assert correction(1.0, 1.0) == 1.0
    assert correction(1.04, 1.0) == pytest.approx(1.04**-0.5)
    assert correction(1.0, 1.04) == pytest.approx(1.04**0.5)
    assert correction(2.0, 1.0) == pytest.approx(0.5 * np.exp(HALVED / 2))
    values = [correction(1.0 + 0.01 * i, 1.0) for i in range(20)]
    assert values == sorted(values, reverse=True)


def test_disturbed_laps_are_left_out() -> None:
    machine = FakeMachine()
    random_ = random.Random(0)
    bad = {i for i in range(10_000) if random_.random() < 0.6}
    machine.noise = lambda i: 3.0 if i in bad else 1.0
    machine.probe = lambda i: 2.0 if i in bad else 1.0
    assert measured(FakeMeter(machine)) == pytest.approx(3.0)


def test_noise_without_a_slow_processor_hardly_moves_the_latency() -> None:
    machine = FakeMachine()
    random_ = random.Random(1)
    machine.noise = lambda i: 1.0 + (random_.expovariate(5.0) if random_.random() < 0.5 else 0.0)
    latencies = [measured(FakeMeter(machine, max_time_s=3)) for _ in range(5)]
    assert latencies == pytest.approx([3.0] * 5, rel=0.02)


def test_rounds_are_added_until_the_interval_is_narrow_or_the_time_is_over() -> None:
    machine = FakeMachine()
    random_ = random.Random(2)
    machine.noise = lambda i: random_.lognormvariate(0.0, 0.3)
    (sure,) = FakeMeter(machine, precision=0.02, max_time_s=100).measure([network()])
    assert sure.n > 60 and sure.warnings == ()
    assert (sure.high_ms - sure.low_ms) / 2 <= 0.02 * sure.ms
    (unsure,) = FakeMeter(machine, precision=0.001, max_time_s=0.2).measure([network()])
    assert unsure.n < sure.n
    assert [w.split(":")[0] for w in unsure.warnings] == ["uncertain"]


def test_a_busy_machine_is_said() -> None:
    machine = FakeMachine()
    machine.others = 1.4
    (latency,) = FakeMeter(machine).measure([network()])
    assert latency.warnings[0].startswith("busy machine: other processes used 1.4 of ")
    assert latency.ms == pytest.approx(3.0)


def test_an_interval_covers_the_time_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    truth = estimate(*_rounds(generator, 20_000)).ms
    hits = 0
    for _ in range(200):
        found = estimate(*_rounds(generator, 64), baseline_ms=1.0)
        hits += found.low <= truth <= found.high
    assert hits >= 180


def _rounds(generator: np.random.Generator, n: int) -> tuple[Samples, Samples]:
    samples = Samples(), Samples()
    for laps in generator.lognormal(0.0, 0.05, size=(n, 3)):
        samples[0].add((list(laps), [0.01] * 4))
        samples[1].add(([1.0], [0.01] * 2))
    return samples


def test_where_every_lap_was_disturbed_the_fastest_counts() -> None:
    samples = Samples()
    for ms, probe in ((2.0, 0.02), (1.5, 0.02), (3.0, 0.02)):
        samples.add(([ms], [0.01, probe]))
    assert estimate(samples, samples).ms == pytest.approx(1.5)


def test_a_restored_baseline_continues_the_scale_of_an_earlier_meter() -> None:
    machine = FakeMachine()
    machine.slowness = 2.0  # a slower day
    meter = FakeMeter(machine, max_time_s=0.3)
    meter.restore({"baseline_ms": 1.0, "probe_ms": 0.02})
    assert measured(meter) == pytest.approx(3.0, rel=HALVED / 2 + 1e-3)
    assert meter.state() == {"baseline_ms": 1.0, "probe_ms": 0.02}


def test_fast_networks_run_several_times_for_each_run_of_the_reference() -> None:
    machine = FakeMachine()
    (latency,) = FakeMeter(machine, ms=0.125).measure([network()])
    assert latency.n == 8 * 30 and latency.ms == pytest.approx(0.125)


def test_the_reference_is_prepared_once() -> None:
    meter = FakeMeter(FakeMachine())
    meter.measure([network(), network()])
    meter.measure([network()])
    assert meter.prepared == 4


@pytest.mark.parametrize(
    "arguments",
    [
        {"repeats": 29},
        {"warmup": 9},
        {"threads": 0},
        {"batch_size": 0},
        {"precision": 0.0},
        {"max_time_s": -1.0},
        {"max_time_s": float("nan")},
        {"dtype": "int3"},
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(MeterError, match=str(next(iter(arguments.values()))).replace(".", r"\.")):
        FakeMeter(FakeMachine(), **arguments)
