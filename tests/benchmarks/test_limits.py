"""The benchmark of limits, shortened: random episodes under random limits on the two networks."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def limits(request: pytest.FixtureRequest) -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_limits", BENCHMARKS / "limits.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))  # it imports networks.py beside it
        spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("name", ["conv_stages", "ResNet-8"])
def test_no_limit_is_broken_and_there_is_something_to_do(limits: ModuleType, name: str) -> None:
    start = limits.networks()[name]
    count = limits.measure(start, cases=12, episodes=120, max_steps=3, seed=0, progress=lambda text: None)
    assert count.broken == 0 and count.episodes >= 100
    assert count.refused <= 1 and count.start_outside >= 2
    assert count.dead_steps <= 0.03 * count.steps
    assert count.unmasked_broken >= count.unmasked / 4


@pytest.mark.slow
def test_the_count_does_not_hang_on_how_many_processes_share_the_cases() -> None:
    def output(jobs: int) -> str:
        command = [sys.executable, "limits.py", "--cases=6", "--episodes=24", "--max-steps=2", f"--jobs={jobs}"]
        return subprocess.run(command, cwd=BENCHMARKS, check=True, capture_output=True, text=True).stdout

    alone = output(1)
    assert "of 12 (" in alone and output(2) == alone
