from __future__ import annotations

import importlib.util
import json
import math
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from rlnas.network import Network
from rlnas.operators import get_operator
from rlnas.report.statistics import Estimate
from rlnas.spaces import conv_stages
from rlnas.tasks import load_task
from tests.operators.sameness import check_exact, make_inputs

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "growth.py"


@pytest.fixture(scope="module")
def growth() -> ModuleType:
    spec = importlib.util.spec_from_file_location("growth", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["growth"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_epochs_to_a_target_lie_on_log_lines(growth: ModuleType) -> None:
    curve = {1 / 3: 0.5, 1.0: 0.7, 3.0: 0.6, 12.0: 0.9}
    assert growth.epochs_to(0.4, curve) == 1 / 3
    assert growth.epochs_to(0.6, curve) == pytest.approx(1 / 3 * math.sqrt(3))
    assert growth.epochs_to(0.7, curve) == pytest.approx(1.0)
    assert growth.epochs_to(0.8, curve) == pytest.approx(3 * 4 ** (2 / 3))
    assert growth.epochs_to(0.95, curve) == math.inf


@pytest.mark.parametrize(
    ("interval", "said"), [((0.1, 0.2), "grown is better"), ((-0.2, -0.1), "scratch"), ((-0.1, 0.1), "not told")]
)
def test_verdict_goes_by_the_interval(growth: ModuleType, interval: tuple[float, float], said: str) -> None:
    assert growth.verdict(Estimate(sum(interval) / 2, interval, 5)).startswith(said)


def test_intervals_are_over_seeds(growth: ModuleType) -> None:
    estimate = growth.over_seeds([(0, 0.1), (0, 0.3), (1, 0.3), (1, 0.5)])
    assert estimate.n == 2 and estimate.mean == pytest.approx(0.3)


def test_every_growth_keeps_the_function_and_the_limit(growth: ModuleType) -> None:
    start = conv_stages((1, 8, 8), 10, width=3)
    network = Network.initialize(start, generator=growth.seeded(0, 1)).to(torch.float64)
    sites = growth.seeded(0, 2)
    used = set()
    for step in range(1, 16):
        site = growth.draw(network.graph, max_macs=start.macs * (1 + growth.PACE * step), generator=sites)
        grown = get_operator(site.operator).apply(network, site, generator=growth.seeded(0, 3))
        check_exact(network, grown, make_inputs(start, step))
        assert network.graph.macs <= grown.graph.macs <= start.macs * (1 + growth.PACE * step)
        network, used = grown, used | {site.operator}
    assert used == set(growth.OPERATORS)


def test_both_arms_train_the_same_graph(growth: ModuleType) -> None:
    (first, second) = (growth.measure("digits", seed=3, steps=2, at=(2,), budgets=(1 / 3, 1.0))[0] for _ in range(2))
    assert first == second, "the same seed gives other figures"
    assert first.step == 2 and set(first.grown) == set(first.scratch) == {1 / 3, 1.0}
    assert first.grown[1 / 3] > first.scratch[1 / 3] + 0.2, "three epochs of training were not inherited"
    task = load_task("digits", split_seed=3)
    *_, (_, network) = growth.lineage(task, seed=3, steps=2, batch_size=32)
    assert (network.graph.macs, network.graph.n_params) == (first.macs, first.n_params)


def test_quick_run_prints_writes_and_draws(
    growth: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    files = tmp_path / "points.json", tmp_path / "curves.png"
    options = ["--quick", "--seeds", "1", "--steps", "2", "--output", str(files[0]), "--plot", str(files[1])]
    monkeypatch.setattr(sys, "argv", ["growth.py", *options])
    growth.main()
    printed = capsys.readouterr().out
    points = json.loads(files[0].read_text())["points"]
    assert [p["step"] for p in points] == [1, 2]
    mean = 100 * sum(p["grown"]["3.0"] - p["scratch"]["3.0"] for p in points) / len(points)
    assert f"grown after 3 epochs less scratch after 3: {mean:+.2f}  (one seed: no interval)" in printed
    spent = [p["inherited"] + 1 for p in points]
    early = 100 * sum(p["grown"]["1.0"] - p["scratch"]["3.0"] for p in points) / len(points)
    assert f"grown after 1 epoch less scratch after 3: {early:+.2f}" in printed
    assert f"cost {min(spent):.1f} to {max(spent):.1f} epochs of its own" in printed
    assert files[1].read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr(growth, "measure", None)  # what is stored is not measured again
    growth.main()
    assert capsys.readouterr().out == printed
    monkeypatch.setattr(sys, "argv", ["growth.py", *options, "--steps", "3"])
    with pytest.raises(SystemExit, match="another protocol"):
        growth.main()


def test_costs_count_ancestors_in_epochs_of_the_network(growth: ModuleType) -> None:
    (first, second) = growth.measure("digits", seed=1, steps=2, at=(1, 2), budgets=(1 / 3,))
    start = conv_stages((1, 8, 8), 10).macs
    assert first.inherited == pytest.approx(growth.START_EPOCHS * start / first.macs)
    spent = growth.START_EPOCHS * start + growth.GROWTH_EPOCHS * first.macs
    assert second.inherited == pytest.approx(spent / second.macs)
