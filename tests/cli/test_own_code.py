"""Evaluators and operators of a person's own, by import paths: in a run, in its workers, and when it is resumed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml

from rlnas.cli.config import SearchSettings
from rlnas.cli.own_code import code_folder
from rlnas.errors import ConfigError
from rlnas.evaluation import Store
from rlnas.runs import read_evaluations
from tests.cli.inside import IMAGE, NET, Inside
from tests.cli.running import QUICK, REPOSITORY, rlnas

EXAMPLES = REPOSITORY / "docs" / "examples"
SHORT = (
    *QUICK,
    *("--controller.n_envs=2", "--reward.cost=macs", "--evaluation.start_epochs=0.5"),
    *("--final.candidates=1", "--final.seeds=1", "--final.epochs=0.3", "--final.random_baseline=false"),
)

OWN = """
from rlnas import Operator
from rlnas.evaluation import Evaluation, Metrics, TrainingEvaluator


class Unfinished(Operator):
    def obstacle(self, graph, site): return None
    def rewrite(self, graph, site): return graph, {}
    def tensors(self, network, site, edit, *, generator, calibration): ...


class Demanding(Unfinished):
    exact, amounts = True, (1,)
    def __init__(self, colour): ...


class Bare:
    def __init__(self, task): ...
    def evaluate(self, network, *, seed): ...


def broken(task): raise RuntimeError("no luck")


def training(task, epochs=1): return TrainingEvaluator(task, epochs=epochs)


class Counted:
    recipe, deterministic = "counted", True
    def __init__(self, task): ...
    def work(self, graph): return 0.0
    def evaluate(self, network, *, seed):
        accuracy = 0.5 + min(network.graph.n_params, 10_000) / 40_000
        return Evaluation(Metrics.of_graph(network.graph, accuracy=accuracy, cost_s=0.0))


number = 3
"""
"""A person's file."""


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Inside:
    (tmp_path / "own_mistakes.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "own_mistakes", raising=False)
    return Inside(capsys)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--evaluation.name=own_mistake:training", ["cannot import own_mistake", "No module"]),
        ("--evaluation.name=own_mistakes:trainin", ["own_mistakes has no trainin", "did you mean training"]),
        ("--evaluation.name=own_mistakes.py:training", ["package.module:name", "mine:name"]),
        ("--evaluation.name=own_mistakes:", ["package.module:name"]),
        ("--evaluation.name=own_mistakes:number", ["is of type int", "takes the task"]),
        ("--evaluation.name=own_mistakes:Bare", ["Bare without", "recipe, deterministic, work", "an evaluator has"]),
        ("--evaluation.name=own_mistakes:broken", ["cannot make", "RuntimeError: no luck", "own_mistakes.py:"]),
        ("--space.variants=[own_mistakes:number 2]", ["is no operator but of type int", "rlnas.Operator"]),
        ("--space.variants=[own_mistakes:Bare 2]", ["is no operator but the class Bare"]),
        ("--space.variants=[own_mistakes:Unfinished 2]", ["does not say what its exact and amounts are"]),
        ("--space.variants=[own_mistakes:Demanding 2]", ["cannot make the operator", "colour"]),
        ("--space.variants=[own_mistakes:Unfinished]", ["amount"]),
        ("--space.name=own_mistake:Bare", ["cannot import own_mistake", "No module"]),
        ("--space.name=own_mistakes:number", ["is of type int", "makes networks"]),
        ("--run.code=elsewhere", ["run.code=elsewhere does nothing"]),
        ("--evaluation.options={epochs: 2}", ["evaluation.options", "'training'"]),
    ],
)
def test_wrong_paths_are_one_line_and_leave_nothing(
    command: Inside, option: str, words: list[str], tmp_path: Path
) -> None:
    line = command.fails("train", option)
    assert all(word in line for word in words), line
    assert not (tmp_path / "runs").exists()


def test_wrong_options_of_an_own_evaluator_are_named(command: Inside) -> None:
    line = command.fails("train", "--evaluation.name=own_mistakes:training", "--evaluation.options={epoch: 2}")
    assert "epoch" in line and "evaluation.options" in line
    line = command.fails("train", "--evaluation.name=own_mistakes:training", "--run.code=elsewhere")
    assert "elsewhere is no folder" in line


def test_what_does_nothing_for_an_own_evaluator_is_refused(command: Inside) -> None:
    own = "--evaluation.name=own_mistakes:training"
    assert "evaluation.table does nothing" in command.fails("train", own, "--evaluation.table=t.json")
    assert "evaluation.distill does nothing" in command.fails("train", own, "--evaluation.distill=0.5")


def test_settings_without_own_code_have_no_folder() -> None:
    settings = SearchSettings()
    assert code_folder(settings) is None
    settings.space.variants = ["widen 2", "mine:Own 2"]
    assert code_folder(settings) == Path.cwd()
    settings.run.code = "nowhere"
    with pytest.raises(ConfigError, match="no folder; it is where mine:Own 2"):
        code_folder(settings)


def test_own_operators_apply_by_hand(command: Inside, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "swap.py").write_text((EXAMPLES / "own_operator.py").read_text())
    shown = command("show", "net.py:Net", *IMAGE, "--sites", "swap:SwapActivation")
    assert "swap:SwapActivation relu" in shown and "4 sites" in shown
    site = next(word for word in shown.split() if word.startswith("relu"))
    done = command("apply", "net.py:Net", *IMAGE, "swap:SwapActivation", site, "--amount", "2", "--to", "swapped")
    assert f"swap:SwapActivation({site}, 2)" in done
    assert "silu" in command("show", "swapped")


@pytest.mark.slow
def test_a_run_with_own_code_is_resumed_from_another_folder(tmp_path: Path) -> None:
    begun, resumed = tmp_path / "begun", tmp_path / "resumed"
    code = begun / "code"
    for folder in (begun, resumed, code):
        folder.mkdir()
    for name in ("own_evaluator.py", "own_operator.py"):
        (code / name).write_text((EXAMPLES / name).read_text())
    own = (
        "--run.code=code",
        "--evaluation.name=own_evaluator:NoisyAccuracy",
        "--evaluation.options={noise: 0.1, epochs: 0.3}",
    )
    variants = "--space.variants=[own_operator:SwapActivation 1, own_operator:SwapActivation 2, widen 2]"
    options = (*own, variants, "--run.name=own", "--evaluation.workers=1", "--evaluations=2")
    done = rlnas("train", *SHORT, *options, folder=begun)
    assert done.returncode == 0, done.stderr
    run = begun / "runs" / "own"
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["run"]["code"] == str(code.absolute())
    config["evaluations"] = 4
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    done = rlnas("resume", str(run), folder=resumed)
    assert done.returncode == 0, done.stderr
    found = read_evaluations(run / "events.jsonl")
    assert len(found) == 4 and {e["status"] for e in found} == {"ok"}
    assert any("own_operator:SwapActivation" in edit for e in found for edit in e["operators"])
    recipes = {json.loads(row)[0] for row in stored_recipes(run) if row.startswith("[")}
    assert recipes == {"noisy accuracy"}


@pytest.mark.slow
def test_an_own_evaluator_need_not_train(tmp_path: Path) -> None:
    """The best network of the search then has the weights that it inherited, until the final training."""
    (tmp_path / "own_mistakes.py").write_text(OWN)
    options = ("--evaluation.name=own_mistakes:Counted", "--evaluation.workers=0", "--evaluations=4", "--run.name=own")
    done = rlnas("train", *SHORT, *options, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "own" / "best" / "weights.safetensors").is_file()


def stored_recipes(run: Path) -> list[str]:
    with Store(run / "evaluations.sqlite", read_only=True) as store:
        return [record.recipe for record in store.rows()]


def test_the_latency_commands_find_own_operators(command: Inside, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "swapping.py").write_text((EXAMPLES / "own_operator.py").read_text())
    config = {"space": {"variants": ["swapping:SwapActivation 2"], "max_steps": 1}, "run": {"code": "code"}}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(config))
    words = ("latency", "build-table", "--space", "own.yaml", "--episodes", "2", "--to", "t.json")
    quick = ("--repeats", "30", "--max-time-s", "0.01")
    assert "t.json" in command(*words, *quick)
    assert "silu" in (tmp_path / "t.json").read_text()
