"""Runs whose results are looked up: budgets in distinct networks, the report, resuming, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from rlnas.cli.budget import PATIENCE, Budget, within
from rlnas.cli.config import SearchSettings
from rlnas.cli.parse import settings_from_dict
from rlnas.cli.tabular import make_table
from rlnas.cli.tabular_report import Answer
from rlnas.runs import read_evaluations
from tests.cli.inside import Inside
from tests.cli.running import REPOSITORY
from tests.cli.test_train import same_policy
from tests.evaluation.test_cell_table import write

CONFIG = str(REPOSITORY / "configs" / "nas_bench_201.yaml")
QUIET = ("--tracking.mode=disabled", "--progress=false", "--controller.n_envs=4")


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    return write(tmp_path / "nasbench201.npz")


def record(number: int, key: str, **rest: Any) -> dict[str, Any]:
    return {"evaluation": number, "graph_key": key, "cache_key": key, "status": "ok", "reward": 0.5} | rest


def test_distinct_networks_are_counted_and_those_met_again_are_free() -> None:
    settings = SearchSettings(evaluations=3, count="distinct")
    budget = Budget(settings)
    spent = []
    for number, key in enumerate(["a", "a", "b", "a", "c", "b"], 1):
        assert budget.spend(record(number, key)) and budget.done == (number >= 5)
        spent.append(budget.spent)
    assert spent == [1, 1, 2, 2, 3, 3]
    assert not budget.spend(record(7, "d")) and budget.spend(record(8, "c"))
    again = Budget(settings)
    again.restore(json.loads(json.dumps(budget.state())))
    assert again.done and again.spent == 3
    assert budget.shown == 3 and budget.episodes == 60 == PATIENCE * 3


def test_what_was_not_evaluated_does_not_count() -> None:
    budget = Budget(SearchSettings(evaluations=2, count="distinct"))
    assert budget.spend(record(1, "a", cache_key="", status="infeasible"))
    assert budget.spend(record(2, "b", status="screened")) and budget.spent == 0


def test_by_default_every_episode_of_whole_batches_counts() -> None:
    settings = SearchSettings(evaluations=12)
    budget = Budget(settings)
    found = [record(number, "a") for number in range(20)]
    assert budget.episodes == budget.shown == 20 and within(found, settings) == found
    assert all(budget.spend(one) for one in found) and budget.spent == 20 and not budget.done


def test_a_run_from_beginning_to_end(inside: Inside, bench: Path) -> None:
    out = inside("train", "--config", CONFIG, "--task.path=nasbench201.npz", "--evaluations=30", "--seed=3", *QUIET)
    run = Path("runs/nas_bench_201-001")
    assert "meet latency_ms <= " in out and "regret in test accuracy" in out
    plain = yaml.safe_load((run / "config.yaml").read_text())
    assert plain["task"]["path"] == str(bench)
    settings = settings_from_dict(plain)
    problem = make_table(settings)
    best = json.loads((run / "best" / "metrics.json").read_text())
    report = (run / "report.md").read_text()
    rows = {line.split(" | ")[0].strip("| "): re.split(r" \| ", line.strip("| ")) for line in report.splitlines()}
    for stage, name in (("controller", "ppo"), ("random", "random")):
        logged = read_evaluations(run / "events.jsonl", stage)
        assert all(problem.feasible.meets(problem.space.from_choices(e["choices"])) for e in logged)
        found = within(logged, settings)
        assert len({e["graph_key"] for e in found}) == 30
        assert len({e["graph_key"] for e in logged[:-4]}) < 30  # so the last batch was needed
        answer = Answer.of(name, found, problem)
        assert answer.evaluation is not None and answer.evaluation["reward"] == max(e["reward"] for e in found)
        column = 1 if name == "ppo" else 2
        assert rows["distinct"][column] == "30"
        assert rows["test accuracy"][column] == f"{answer.test_accuracy:.2%}"
        assert rows["regret in test accuracy"][column] == f"{answer.regret:.2%}"
        if name == "ppo":
            assert best["cell"] == answer.evaluation["cell"] and best["test_accuracy"] == answer.test_accuracy
    assert (run / "pareto.csv").exists() and (run / "pareto.png").read_bytes()[:4] == b"\x89PNG"
    assert "test_accuracy" not in (run / "events.jsonl").read_text().split('"kind": "final"')[0]
    assert re.search(r"best: (controller|random) \d+, reward", inside("show", str(run)))


def test_a_search_paid_for_costs_too_is_judged_by_its_reward(inside: Inside, bench: Path) -> None:
    options = "{device: fpga, min_latency: 10%, reward: mnasnet_soft, cost: latency_ms, target_ms: 2}"
    words = ("--task.path=nasbench201.npz", f"--task.options={options}", "--evaluations=30", *QUIET)
    out = inside("train", "--config", CONFIG, *words)
    assert "regret in reward" in out and "best by reward" in out and "regret in test accuracy" not in out
    best = json.loads(Path("runs/nas_bench_201-001/best/metrics.json").read_text())
    assert best["reward"] == pytest.approx(best["accuracy"] * (best["latency_ms"] / 2) ** -0.07)
    assert best["regret"] is None and best["test_accuracy"] > 0


def test_steps_may_be_paid_and_the_learner_says_by_which_discount(inside: Inside, bench: Path) -> None:
    plain = {"task": {"name": "nas_bench_201", "path": str(bench), "options": {"step_reward": "evaluated"}}}
    problem = make_table(settings_from_dict(plain | {"controller": {"name": "ppo", "arguments": {"gamma": 0.9}}}))
    assert problem.shaping is not None and problem.shaping.discount == 0.9
    words = ("--task.path=nasbench201.npz", "--task.options={step_reward: evaluated}", "--evaluations=12", *QUIET)
    inside("train", "--config", CONFIG, *words)
    logged = read_evaluations(Path("runs/nas_bench_201-001/events.jsonl"), "controller")
    assert len(logged) >= 12 and all(e["reward"] == e["accuracy"] for e in logged)  # records say what the end is worth
    assert "metrics equal" in inside("validate", "runs/nas_bench_201-001")


def test_answers_are_the_best_by_validation_with_what_they_miss(bench: Path) -> None:
    problem = make_table(settings_from_dict({"task": {"name": "nas_bench_201", "path": str(bench)}}))
    numbers = np.argsort(problem.scores, axis=None)[[5, -3, 100]]
    found = [
        record(
            i, str(n), reward=float(problem.scores.flat[n]), choices=problem.space.choices(problem.space.assignment(n))
        )
        for i, n in enumerate(numbers.tolist())
    ]
    answer = Answer.of("x", found, problem)
    test = problem.hidden["test_accuracy"]
    assert answer.evaluation == found[1] and answer.test_accuracy == test.flat[numbers[1]]
    assert answer.regret == pytest.approx(test.max() - test.flat[numbers[1]])
    assert answer.regret_in_reward == pytest.approx(problem.scores.max() - problem.scores.flat[numbers[1]])
    assert Answer.of("x", [], problem) == Answer("x")


@pytest.mark.parametrize("count", ["all", "distinct"])
def test_a_resumed_run_arrives_where_one_that_was_not_stopped_does(inside: Inside, bench: Path, count: str) -> None:
    words = ("train", "--config", CONFIG, "--task.path=nasbench201.npz", f"--count={count}", *QUIET)
    inside(*words, "--evaluations=24", "--run.name=whole")
    inside(*words, "--evaluations=12", "--run.name=half")
    config = Path("runs/half/config.yaml")
    config.write_text(config.read_text().replace("evaluations: 12", "evaluations: 24"))
    inside("resume", "runs/half")
    first, second = (read_evaluations(Path("runs") / name / "events.jsonl") for name in ("whole", "half"))
    assert first == second and len(first) >= 48
    assert same_policy(Path("runs/whole"), Path("runs/half"))
    reports = [json.loads((Path("runs") / name / "best" / "metrics.json").read_text()) for name in ("whole", "half")]
    assert reports[0] == reports[1]


def test_a_search_that_finds_nothing_new_ends(inside: Inside, bench: Path) -> None:
    cap = sorted(np.load(bench)["cifar10_params"].tolist())[2]
    options = f"{{max_params: {cap}}}"
    inside(
        "train",
        "--config",
        CONFIG,
        "--task.path=nasbench201.npz",
        "--evaluations=8",
        f"--task.options={options}",
        *QUIET,
        "--controller.n_envs=16",
        "--controller.name=random",
    )
    found = read_evaluations(Path("runs/nas_bench_201-001/events.jsonl"), "controller")
    assert len(found) == 8 * PATIENCE and len({e["graph_key"] for e in found}) <= 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--space.width=12"], "space.width does nothing with the task 'nas_bench_201'"),
        (["--reward.cost=macs"], "reward.cost does nothing"),
        (["--evaluation.lag=1"], "evaluation.lag does nothing"),
        (["--final.epochs=3"], "final.epochs does nothing"),
        (["--run.store=a.sqlite"], "run.store does nothing"),
        (["--task.options={datset: cifar10}"], "Did you mean 'dataset'"),
        (["--task.options={path: a.npz}"], "unknown option of task nas_bench_201: 'path'"),
        (["--task.options={device: fpga, max_latency: 1e-9}"], "none of the 15,625 assignments"),
        (["--task.path=nowhere.npz"], "nowhere.npz"),
        (["--count=some"], "count"),
        (["--controller.name=pppo"], "Did you mean 'ppo'"),
    ],
)
def test_mistakes_are_refused_before_there_is_a_run(inside: Inside, bench: Path, words: list[str], said: str) -> None:
    assert said in inside.fails("train", "--config", CONFIG, "--task.path=nasbench201.npz", *QUIET, *words)
    assert not Path("runs").exists()
