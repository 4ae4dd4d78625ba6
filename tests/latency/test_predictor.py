"""Predictors: the fit, what they refuse, their files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rlnas.errors import MeterError
from rlnas.latency import Latency, LatencyPredictor, PredictorMeter
from rlnas.latency.features import features
from rlnas.latency.predictor import AGREE, Measured, collect
from rlnas.latency.ridge import fit, predict, spearman
from rlnas.spaces import DEFAULT_VARIANTS, MorphSpace, conv_stages
from rlnas.spaces.sampling import distinct_graphs, random_episodes
from tests.graph.examples import example
from tests.latency.fakes import FakeMachine, FakeMeter, network
from tests.latency.meters import MEASURED_BY, predictor


def test_costs_that_networks_have_are_found_again() -> None:
    generator = np.random.default_rng(0)
    truth = {"a": 0.5, "b": 0.01, "c": 0.0}
    rows = [{name: float(generator.integers(1, 50)) for name in truth} for _ in range(200)]
    ms = [predict(truth, row) * generator.lognormal(0.0, 0.01) for row in rows]
    costs, held_out = fit(rows, ms)
    assert costs["a"] == pytest.approx(0.5, rel=0.02) and costs["b"] == pytest.approx(0.01, rel=0.1)
    assert 0 <= costs["c"] < 1e-3
    assert held_out.mape < 1.5 and held_out.spearman > 0.99 and held_out.relative_95 < 0.03


def test_held_out_errors_are_of_networks_that_the_fit_has_not_seen() -> None:
    generator = np.random.default_rng(1)
    rows = [{f"f{i}": float(generator.random()) for i in range(40)} for _ in range(50)]
    _, held_out = fit(rows, list(generator.lognormal(0.0, 0.5, size=50)))  # nothing to be learnt
    assert held_out.mape > 25 and abs(held_out.spearman) < 0.5


def test_no_cost_is_below_zero() -> None:
    generator = np.random.default_rng(2)
    rows = [{"a": float(generator.integers(1, 9)), "b": float(generator.integers(1, 9))} for _ in range(60)]
    costs, _ = fit(rows, [row["a"] + 0.5 - 0.05 * row["b"] for row in rows])
    assert min(costs.values()) >= 0


def test_rank_correlation() -> None:
    assert spearman(np.array([1.0, 2.0, 3.0]), np.array([1.0, 4.0, 9.0])) == pytest.approx(1.0)
    assert spearman(np.array([1.0, 2.0, 3.0]), np.array([9.0, 4.0, 1.0])) == pytest.approx(-1.0)
    assert spearman(np.array([1.0, 1.0, 3.0, 4.0]), np.array([1.0, 2.0, 3.0, 4.0])) == pytest.approx(0.9486833)


def test_features_count_work() -> None:
    graph = example("conv2d")
    one, four = features(graph), features(graph, batch_size=4)
    kinds = {name.split(".")[0] for name in one}
    assert any(kind.startswith("conv2d_3x1") for kind in kinds)
    for name, value in one.items():
        fixed = name.endswith((".count", ".params"))
        assert four[name] == pytest.approx(value if fixed else 4 * value), name
    macs = sum(value for name, value in one.items() if name.endswith(".macs"))
    assert macs == pytest.approx(graph.macs / 1e3)


def test_channels_are_counted_in_whole_blocks() -> None:
    for width, blocks in ((4, 4.0), (16, 1.0), (17, 32 / 17), (32, 1.0)):
        row = features(network(width).graph)
        assert row["conv2d_3x3_thin.blocks"] / row["conv2d_3x3_thin.macs"] >= blocks * (0.99 if width > 7 else 0.9)


def test_predicting_networks_between_those_measured() -> None:
    known = predictor()
    graph = network(13).graph
    truth = 0.01 * len(graph) + graph.macs / 1e7
    del known.measured[graph.key]
    held_out = known.fit()
    found = known.latency(graph)
    assert found.ms == pytest.approx(truth, rel=0.05) and found.warnings == ()
    assert found.high_ms == pytest.approx(found.ms * (1 + held_out.relative_95))


def test_what_was_never_measured_is_an_error_and_what_is_far_a_warning() -> None:
    known = predictor()
    with pytest.raises(MeterError, match=r"was fitted on networks without .*rlnas latency fit") as caught:
        known.latency(example("softmax"))
    assert "\n" not in str(caught.value)
    assert known.latency(network(300).graph).warnings[0].startswith("extrapolated: ")


def test_too_few_networks_are_refused() -> None:
    known = predictor()
    known.measured = dict(list(known.measured.items())[:29])
    with pytest.raises(MeterError, match="29 measured networks are too few"):
        known.fit()


def test_collecting_goes_on_where_it_stopped_and_asks_again_where_measurements_differ() -> None:
    machine = FakeMachine()
    meter = FakeMeter(machine, max_time_s=0.05)
    found = LatencyPredictor(meter.description)
    graphs = [network(width).graph for width in range(2, 8)]
    seen: list[str] = []

    def note(graph: object, latency: Latency) -> None:
        seen.append(graph.key)  # type: ignore[attr-defined]
        if len(seen) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collect(found, graphs, meter=meter, on_network=note)
    assert list(found.measured) == seen
    odd = graphs[0].key
    found.measured[odd] = Measured(found.measured[odd].features, (Latency(9.0, 9.0, 9.0, 30),))
    collect(found, graphs, meter=meter)
    assert {key: len(row.latencies) for key, row in found.measured.items()} == {
        graph.key: 3 if graph.key == odd else 2 for graph in graphs
    }
    assert found.measured[odd].ms == pytest.approx(3.0) and found.measured[odd].apart <= AGREE
    before = machine.passes
    collect(found, graphs, meter=meter)
    assert machine.passes == before


def test_a_predictor_of_another_setting_is_not_added_to() -> None:
    with pytest.raises(MeterError, match="was measured with meter='torch_cpu', now it is 'fake'"):
        collect(predictor(), [], meter=FakeMeter(FakeMachine()))


def test_files_come_back_as_they_were(tmp_path: Path) -> None:
    known = predictor()
    known.save(tmp_path / "a.json")
    assert LatencyPredictor.load(tmp_path / "a.json") == known
    assert (
        PredictorMeter(predictor=tmp_path / "a.json").graph_ms(network(9).graph) == known.latency(network(9).graph).ms
    )


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("format",), "rlnas.latency-table/1", "is no latency predictor, but of format rlnas.latency-table/1"),
        (("costs",), None, "is damaged"),
        (("held_out",), {"mape": 1.0}, "is damaged"),
        (("networks", 0, "measurements"), [], "is damaged: network .* was never measured"),
        (("networks", 0, "measurements", 0, "ms"), "x", "is damaged"),
        (("meter", "batch_size"), 0, "is damaged: batch_size=0"),
        (("held_out",), None, "holds 40 measured networks but no fit yet"),
    ],
)
def test_files_that_are_no_predictors_are_refused(
    path: tuple[str | int, ...], value: object, said: str, tmp_path: Path
) -> None:
    data = predictor().to_json() | {"meter": dict(MEASURED_BY)}
    place = data
    for step in path[:-1]:
        place = place[step]  # type: ignore[index]
    place[path[-1]] = value  # type: ignore[index]
    (tmp_path / "p.json").write_text(json.dumps(data))
    with pytest.raises(MeterError, match=said) as caught:
        PredictorMeter(predictor=tmp_path / "p.json")
    assert "\n" not in str(caught.value)


def test_random_episodes_are_reproducible_and_within_the_space() -> None:
    space = MorphSpace(conv_stages((1, 8, 8), 10), DEFAULT_VARIANTS, max_steps=3)
    first, second = (distinct_graphs(space, 20, seed=3) for _ in range(2))
    assert [g.key for g in first] == [g.key for g in second] and len({g.key for g in first}) == 20
    assert [g.key for g in distinct_graphs(space, 20, seed=4)] != [g.key for g in first]
    lengths = {len(graphs) for graphs, _ in zip(random_episodes(space, seed=0), range(40), strict=False)}
    assert lengths == {1, 2, 3, 4}
