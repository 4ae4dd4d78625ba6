"""``rlnas validate``: a run as it was left is in order; whatever is changed in it is found, and by the right check."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from rlnas.cli.validating import ACTIONS, FUNCTION, GRAPH, METRICS
from rlnas.evaluation import validation
from rlnas.evaluation.metrics import Evaluation, Metrics
from rlnas.evaluation.training import TrainingEvaluator
from rlnas.network import Network
from rlnas.operators import OPERATORS
from rlnas.operators.base import Tensors
from tests.cli.inside import Inside
from tests.cli.running import QUICK, rlnas
from tests.evaluation.test_cell_table import write

SETTINGS = (
    *("--reward.cost=macs", "--evaluations=8", "--space.promote_every=4", "--progress=false"),
    *("--final.random_baseline=false", "--space.variants=[widen 2, deepen 3, prune_channels 0.25]", "--seed=1"),
    *("--evaluation.workers=0", "--space.max_steps=3", "--final.candidates=1"),
    *("--evaluation.epochs=0.1", "--evaluation.start_epochs=0.5", "--final.seeds=1", "--final.epochs=0.3"),
)
Change = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("validate")
    done = rlnas("train", *QUICK, *SETTINGS, "--run.name=one", folder=folder)
    assert done.returncode == 0, done.stderr
    return folder / "runs" / "one"


@pytest.fixture
def run(finished: Path, inside: Inside) -> Path:
    """A copy that may be changed."""
    shutil.copytree(finished, "copy")
    return Path("copy")


def counts(out: str) -> dict[str, tuple[int, int, int]]:
    """Of each check: how many are equal, differ, were not checked."""
    found = re.findall(r"^(\w[\w ]+?)  +(?:episodes|edits|evaluations) +(\d+) +(\d+) +(\d+)$", out, re.MULTILINE)
    return {name: (int(a), int(b), int(c)) for name, a, b, c in found}


def edit(run: Path, change: Change, *, number: int = 5) -> None:
    """Change an episode in the log."""
    lines = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    (one,) = [e["values"] for e in lines if e["kind"] == "evaluation" and e["values"]["evaluation"] == number]
    change(one)
    (run / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def differs(inside: Inside, *words: str) -> tuple[dict[str, tuple[int, int, int]], str]:
    done = inside.run("validate", *words)
    assert done.status == 1 and done.err == "", done
    return counts(done.out), done.out


def test_a_run_as_it_was_left_is_in_order(run: Path, inside: Inside) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    out = inside("validate", str(run))
    found = counts(out)
    assert list(found) == [ACTIONS, GRAPH, FUNCTION, METRICS]
    assert found[ACTIONS] == found[GRAPH] == (8, 0, 0)
    assert found[FUNCTION][0] > 0 and found[FUNCTION][1] == 0 and "need not keep it" in out
    assert found[METRICS][0] > 3 and found[METRICS][1:] == (0, 0)
    after = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert {path: data for path, data in after.items() if path.suffix not in (".sqlite-shm", ".sqlite-wal")} == before
    few = counts(inside("validate", str(run), "--sample", "2"))
    assert few[METRICS] == (2, 0, found[METRICS][0] - 2)


def test_the_run_was_promoted_so_that_lineages_have_several_starts(finished: Path) -> None:
    text = (finished / "events.jsonl").read_text()
    assert len(set(re.findall(r'"start_id": "(\w+)"', text))) > 1


def other_action(one: dict[str, Any]) -> None:
    one["actions"] = [0] * len(one["actions"]) if one["edits"] else [2, *one["actions"][1:]]


def no_action(one: dict[str, Any]) -> None:
    one["actions"] = [10**6, *one["actions"][1:]]


def unfinished(one: dict[str, Any]) -> None:
    one["actions"] = one["actions"][:1] if one["edits"] else []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (other_action, "the actions give"),
        (no_action, "must be a whole number from 0 to"),
        (unfinished, "do not end it"),
        (lambda one: one.update(actions=one["actions"] + [0]), "has ended before action"),
        (lambda one: one.update(start_id="nothing"), "no start network"),
    ],
)
def test_other_actions_are_found(run: Path, inside: Inside, change: Change, words: str) -> None:
    edit(run, change)
    found, out = differs(inside, str(run), "--sample", "0")
    assert found[ACTIONS] == (7, 1, 0) and found[GRAPH] == (7, 0, 1)
    assert f"{ACTIONS}: controller 5: " in out and words in out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda one: one.update(graph_key="0" * 24), "its key is"),
        (lambda one: one.update(macs=one["macs"] + 1), "macs is"),
    ],
)
def test_another_graph_is_found(run: Path, inside: Inside, change: Change, words: str) -> None:
    edit(run, change)
    found, out = differs(inside, str(run), "--sample", "0")
    assert found[ACTIONS] == (8, 0, 0) and found[GRAPH] == (7, 1, 0)
    assert f"{GRAPH}: controller 5: {words}" in out


def test_metrics_that_the_store_does_not_hold_are_found(run: Path, inside: Inside) -> None:
    edit(run, lambda one: one.update(accuracy=0.123))
    found, out = differs(inside, str(run), "--sample", "0")
    assert found[GRAPH] == (8, 0, 0) and found[METRICS][1] == 1
    assert re.search(rf"{METRICS}: controller \d+: accuracy is 0.123 in the log", out)


def test_metrics_that_do_not_come_out_again_are_found(run: Path, inside: Inside) -> None:
    """The log and the store agree, so that only evaluating again can tell."""
    edit(run, lambda one: one.update(accuracy=0.123))
    events = [json.loads(line)["values"] for line in (run / "events.jsonl").read_text().splitlines()]
    (key,) = [values["cache_key"] for values in events if values.get("accuracy") == 0.123]
    for one in [values["evaluation"] for values in events if values.get("cache_key") == key and "actions" in values]:
        edit(run, lambda values: values.update(accuracy=0.123), number=one)
    with sqlite3.connect(run / "evaluations.sqlite") as store:
        assert store.execute("UPDATE evaluations SET accuracy = 0.123 WHERE cache_key = ?", (key,)).rowcount == 1
    store.close()
    found, out = differs(inside, str(run))
    assert found[GRAPH] == (8, 0, 0) and found[METRICS][1] == 1
    assert re.search(rf"{METRICS}: controller \d+: accuracy 0\.\d+, stored 0.123", out)


def test_an_exact_operator_that_changes_the_function_is_found(
    run: Path, inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = OPERATORS["widen"]
    tensors = type(operator).tensors

    def broken(self: Any, network: Network, site: Any, made: Any, **options: Any) -> Tensors:
        right = tensors(self, network, site, made, **options)
        values: Mapping[str, Tensor] = right.values
        name = next(name for name in values if name.endswith("weight") and values[name].dim() == 4)
        return Tensors({**values, name: values[name] * (1 + 1e-9)}, right.compensated)

    monkeypatch.setattr(type(operator), "tensors", broken)
    found, out = differs(inside, str(run), "--sample", "0")
    assert found[ACTIONS] == found[GRAPH] == (8, 0, 0) and found[FUNCTION][1] > 0
    assert f"{FUNCTION}: controller " in out and "widen(" in out and "changes the outputs by" in out


def test_noise_is_allowed_where_the_evaluator_states_it(
    run: Path, inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate = TrainingEvaluator.evaluate

    def noisy(self: Any, network: Network, *, seed: int) -> Evaluation:
        found = evaluate(self, network, seed=seed)
        known = found.metrics
        assert known is not None and known.accuracy is not None
        moved = Metrics.of_graph(network.graph, accuracy=known.accuracy + 0.01, cost_s=0.0, epochs=known.epochs)
        return Evaluation(moved)

    monkeypatch.setattr(TrainingEvaluator, "evaluate", noisy)
    assert differs(inside, str(run), "--sample", "2")[0][METRICS][1] == 2
    monkeypatch.setattr(TrainingEvaluator, "deterministic", False)
    done = inside.run("validate", str(run), "--sample", "2")
    assert done.status == 0 and counts(done.out)[METRICS][0] == 0 and "nor says its noise" in done.out
    monkeypatch.setattr(TrainingEvaluator, "noise", 0.02, raising=False)
    assert counts(inside("validate", str(run), "--sample", "2"))[METRICS][:2] == (2, 0)
    monkeypatch.setattr(TrainingEvaluator, "noise", 0.005)
    assert differs(inside, str(run), "--sample", "2")[0][METRICS][1] == 2


@pytest.mark.slow
def test_what_was_evaluated_for_less_long_is_evaluated_so_again(inside: Inside) -> None:
    inside("train", *QUICK, *SETTINGS, "--evaluation.halving=2", "--evaluation.rounds=2", "--run.name=halved")
    found = counts(inside("validate", "runs/halved"))
    assert found[ACTIONS] == (8, 0, 0) and found[METRICS][0] > 3 and found[METRICS][1:] == (0, 0)


def test_a_run_that_looks_results_up(inside: Inside) -> None:
    write(Path("cells.npz"))
    words = ("--task.name=nas_bench_201", "--task.path=cells.npz", "--evaluations=8", "--controller.n_envs=4")
    inside("train", *words, "--tracking.mode=disabled", "--progress=false", "--run.name=cells")
    run = Path("runs/cells")
    n = len(re.findall('"kind": "evaluation"', (run / "events.jsonl").read_text()))
    assert counts(inside("validate", str(run))) == {
        ACTIONS: (n, 0, 0),
        GRAPH: (n, 0, 0),
        FUNCTION: (0, 0, n),
        METRICS: (n, 0, 0),
    }
    lines = (run / "events.jsonl").read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if '"kind": "evaluation"' in line)
    event = json.loads(lines[at])
    event["values"]["accuracy"] += 0.1
    (run / "events.jsonl").write_text("\n".join([*lines[:at], json.dumps(event), *lines[at + 1 :]]) + "\n")
    assert differs(inside, str(run))[0][METRICS] == (n - 1, 1, 0)


def test_mistakes_are_one_line(inside: Inside, run: Path) -> None:
    assert "no run directory" in inside.fails("validate", "nowhere")
    assert "--sample=-1" in inside.fails("validate", str(run), "--sample=-1")
    assert "--seed=-1" in inside.fails("validate", str(run), "--seed=-1")
    assert "did you mean --sample" in inside.fails("validate", str(run), "--samples=3")
    (run / "events.jsonl").write_text("")
    assert "no episodes yet" in inside.fails("validate", str(run))
    assert inside("validate", "--help").startswith("usage: rlnas validate")


def test_the_bound_is_that_of_the_contract() -> None:
    assert validation.EXACT == 1e-12
