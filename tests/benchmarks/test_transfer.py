"""The benchmark of transfer on finished searches whose rewards are known; nothing is trained."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.benchmarks.test_zero_cost import load

SEEDS = range(3)


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    return load("transfer")


def search(path: Path, rewards: list[float]) -> Path:
    """A finished search by PPO, beside evaluations of random search that don't count."""
    path.mkdir(parents=True)
    lines = [
        json.dumps({"kind": "evaluation", "values": {"search": name, "evaluation": i, "reward": reward}})
        for name, values in (("random", [9.0] * len(rewards)), ("controller", rewards))
        for i, reward in enumerate(values)
    ]
    (path / "events.jsonl").write_text("\n".join(lines) + "\n")
    (path / "report.md").write_text("# done\n")
    return path


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Two comparisons; searches get better by 0.01 with each evaluation, and by the seed."""
    for task, scale in (("digits", 1.0), ("fashion", 2.0)):
        for seed in SEEDS:
            rewards = [scale * (0.01 * i + seed) for i in range(150)]
            search(tmp_path / task / f"{task}.ppo.{seed}", rewards)
            search(tmp_path / task / f"{task}.random.{seed}", rewards)
    (tmp_path / "digits" / "digits.ppo.7").mkdir()  # has not ended
    return [tmp_path / "digits", tmp_path / "fashion"]


def test_finished_searches_by_seed(benchmark: ModuleType, folders: list[Path]) -> None:
    found = benchmark.searches(folders[0], "ppo")
    assert list(found) == [*SEEDS] and found[1].name == "digits.ppo.1"
    assert benchmark.rewards(found[1])[:3] == pytest.approx([1.0, 1.01, 1.02])
    with pytest.raises(SystemExit, match="holds no finished search by reinforce: run `rlnas compare`"):
        benchmark.searches(folders[0], "reinforce")


def test_the_tables(
    benchmark: ModuleType,
    folders: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What is transferred has ended already, a constant ahead of the last from scratch; it is not run again."""
    for source, target, scale in (("digits", "fashion", 2.0), ("fashion", "digits", 1.0)):
        for seed in SEEDS:
            moved = [scale * (1.37 + seed) + 0.25] * 50  # 1.37: mean of 1.25 to 1.49
            search(tmp_path / "out" / f"{source}.ppo.{seed}-to-{target}", moved)
    monkeypatch.setattr(benchmark.subprocess, "run", lambda *given, **named: pytest.fail("a search was run again"))
    monkeypatch.setattr(sys, "argv", ["transfer.py", *map(str, folders), "--output", str(tmp_path / "out")])
    benchmark.main()
    words = re.sub(r" +", " ", capsys.readouterr().out)
    first, second = words.split("fashion to digits, 3 seeds")
    assert first.startswith("digits to fashion, 3 seeds")
    assert "from scratch, 26-50 2.740 -2.000 [-2.000, -2.000]" in first  # 2 * (0.37 + 1)
    assert "from scratch, 126-150 4.740\n" in first and "from scratch, 126-150 2.370\n" in second
    for table, own in ((first, "4.990"), (second, "2.620")):
        for place in ("1-25", "26-50"):
            assert f"transferred, {place} {own} +0.250 [+0.250, +0.250]" in table


def test_a_search_that_fails_says_why(benchmark: ModuleType, folders: list[Path], tmp_path: Path) -> None:
    target = benchmark.searches(folders[1], "ppo")[0]  # has no config.yaml
    with pytest.raises(SystemExit, match=r"digits-to-fashion: rlnas.*config\.yaml"):
        benchmark.transfer(tmp_path, target, tmp_path / "digits-to-fashion", 2)
