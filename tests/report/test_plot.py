"""The picture is written, or one line says why not."""

from __future__ import annotations

import math
import random
import subprocess
import sys
from pathlib import Path

import pytest

from rlnas.report import Point, save_pareto_plot
from rlnas.report.plot import LABELS

ROOT = Path(__file__).resolve().parents[2]


def cloud(n: int, *, spread: float = 0.5) -> list[Point]:
    numbers = random.Random(0)
    return [Point(numbers.uniform(0.9, 0.98), 0.2 * math.exp(numbers.gauss(0, spread))) for _ in range(n)]


def size(path: Path) -> tuple[int, int]:
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


@pytest.mark.parametrize("cost", LABELS)
@pytest.mark.parametrize("spread", [0.0, 0.1, 1.0])
def test_plot(tmp_path: Path, cost: str, spread: float) -> None:
    pytest.importorskip("matplotlib")
    points = [*cloud(60, spread=spread), Point(0.3, 0.2), Point(math.nan, 0.2), Point(0.9, 0.0)]
    winners = {name: points[i] for i, name in enumerate(("ppo", "random search", "local search", "largest"))}
    path = tmp_path / "pareto.png"
    message = save_pareto_plot(
        path, points, start=Point(0.945, 0.2), winners=winners, cost=cost, limit=0.4, title="digits"
    )
    assert message is None and size(path) == (1200, 780)


@pytest.mark.parametrize("n", [1, 2])
def test_few_evaluations(tmp_path: Path, n: int) -> None:
    pytest.importorskip("matplotlib")
    assert save_pareto_plot(tmp_path / "pareto.png", cloud(n)) is None
    assert size(tmp_path / "pareto.png") == (1200, 780)


def test_no_evaluation(tmp_path: Path) -> None:
    message = save_pareto_plot(tmp_path / "pareto.png", [Point(math.nan, 1.0)])
    assert message is not None and "no evaluation" in message and not list(tmp_path.iterdir())


def test_unwritable(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    message = save_pareto_plot(tmp_path / "missing" / "pareto.png", cloud(5))
    assert message is not None and "cannot write" in message and "\n" not in message


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("matplotlib", "matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, name, None)
    message = save_pareto_plot(tmp_path / "pareto.png", cloud(5))
    assert message is not None and "rlnas[plot]" in message and "\n" not in message and not list(tmp_path.iterdir())


def test_matplotlib_is_imported_when_used() -> None:
    code = "import sys, rlnas.report; assert not {'matplotlib', 'torch', 'scipy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=ROOT)
