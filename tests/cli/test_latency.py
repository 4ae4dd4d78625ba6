"""``rlnas latency`` as a person runs it, and searches whose latency is looked up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlnas.envs.make import make_space
from rlnas.errors import ConfigError, LimitError
from rlnas.graph import Graph
from rlnas.latency import LatencyTable, PredictorMeter
from rlnas.latency.signature import signatures
from rlnas.spaces.sampling import random_episodes
from rlnas.tasks import load_task
from tests.cli.inside import IMAGE, Inside
from tests.cli.running import QUICK, REPOSITORY, command, environment, rlnas
from tests.latency.meters import predictor, table

CONFIG = str(REPOSITORY / "configs" / "digits_ppo.yaml")
SHORT = ("--max-time-s", "0.02")


def test_measuring_prints_the_latency_and_what_it_depends_on(inside: Inside) -> None:
    out = inside("latency", "measure", "net.py:Net", *IMAGE, "--batch-size", "2", *SHORT)
    first, second, *rest = out.splitlines()
    assert " ms   95 % interval " in first
    assert second.startswith("meter torch_cpu, ") and "batch_size 2, threads 1, dtype float32" in second
    assert all(line.startswith("warning: ") for line in rest)


def test_measuring_as_json(inside: Inside) -> None:
    words = ("--meter", "command", "--command", f"{sys.executable} -c print(2.5)", "--json")
    found = json.loads(inside("latency", "measure", "net.py:Net", *IMAGE, *words))
    assert (found["ms"], found["n"], found["meter"]["meter"]) == (2.5, 1, "command")
    assert found["warnings"] == ["few samples: 1, too few for an interval"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "rlnas latency needs a command: measure"),
        (["mesure"], "did you mean measure?"),
        (["measure", "net.py:Net", *IMAGE, "--meter", "tabel"], "unknown meter 'tabel'. Did you mean 'table'?"),
        (["measure", "net.py:Net", *IMAGE, "--meter", "table"], "the meter table needs the setting table"),
        (["measure", "net.py:Net", *IMAGE, "--table", "t.json"], "the meter torch_cpu has no setting table"),
        (
            ["measure", "net.py:Net", *IMAGE, "--meter", "table", "--table", "t.json"],
            "there is no latency table t.json",
        ),
        (["measure", "net.py:Net", *IMAGE, "--threads", "0"], "threads=0 is too small"),
        (["measure", "net.py:Net", *IMAGE, "--repeat", "40"], "did you mean --repeats?"),
        (["build-table", "--to", "t.json"], "--space CONFIG.yaml, or some with --op"),
        (["build-table", "--to", "t.json", "--op", "{}"], "is no operation with its input shapes"),
        (["build-table", "--to", "t.json", "--space", "none.yaml"], "none.yaml"),
        (
            ["build-table", "--to", "t.json", "--space", CONFIG, "--meter", "command", "--command", "x"],
            "no single oper",
        ),
        (["fit", "--to", "p.json", "--space", CONFIG, "--networks", "29"], "--networks 29 is too small"),
    ],
)
def test_mistakes_get_one_line(words: list[str], said: str, inside: Inside) -> None:
    assert said in inside.fails("latency", *words)
    assert not Path("t.json").exists() and not Path("p.json").exists()


def test_an_operation_that_is_missing_is_added_by_the_command_that_the_error_names(inside: Inside) -> None:
    table(4).save("t.json")
    look = ("latency", "measure", "net.py:Net", *IMAGE, "--meter", "table", "--table", "t.json")
    assert "has no entry for " in inside.fails(*look)
    known = LatencyTable.load("t.json")
    missing = known.missing([make_space(load_task("digits"), width=4, stages=2).start])
    assert not missing
    fresh = next(iter(signatures(make_space(load_task("digits"), width=6).start)))
    assert "was measured with" in inside.fails("latency", "build-table", "--to", "t.json", "--op", fresh.key)
    out = inside("latency", "build-table", "--to", "own.json", "--op", fresh.key, *SHORT)
    assert "own.json: 1 operations" in out and list(LatencyTable.load("own.json").entries) == [fresh.key]


@pytest.mark.slow
def test_a_table_is_built_stopped_and_gone_on_with(tmp_path: Path) -> None:
    words = ("latency", "build-table", "--space", CONFIG, "--to", "t.json", "--episodes", "3")
    process = subprocess.Popen(
        command(*words, "--max-time-s", "1"),
        cwd=tmp_path,
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for _ in range(600):
        time.sleep(0.1)
        if (tmp_path / "t.json").exists():
            break
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and err == "rlnas: stopped\n", err
    assert "what was measured is in t.json" in out
    begun = LatencyTable.load(tmp_path / "t.json")
    assert begun.entries
    again = rlnas(*words, "--max-time-s", "1", "--op", '{"op":"relu","inputs":[[4]]}', folder=tmp_path, timeout=600)
    assert again.returncode == 0, again.stderr
    assert f"{len(begun.entries)} of them done" in again.stdout and "networks of other random episodes" in again.stdout
    whole = LatencyTable.load(tmp_path / "t.json")
    assert all(whole.entries[key] == latency for key, latency in begun.entries.items())
    space = make_space(load_task("digits"))
    graphs = [graph for graphs, _ in zip(random_episodes(space, seed=0), range(3), strict=False) for graph in graphs]
    assert whole.missing(graphs) == []


@pytest.mark.slow
def test_a_predictor_is_fitted_and_knows_other_networks(tmp_path: Path) -> None:
    words = ("latency", "fit", "--space", CONFIG, "--to", "p.json", "--networks", "30", "--passes", "1", *SHORT)
    first = rlnas(*words, folder=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "p.json: fitted to 30 networks of " in first.stdout
    assert "held out (five folds): mean absolute error " in first.stdout
    again = rlnas(*words, folder=tmp_path)
    assert "measurements: 30, 30 of them done" in again.stdout
    assert PredictorMeter(predictor=tmp_path / "p.json").graph_ms(make_space(load_task("digits")).start) > 0


@pytest.mark.slow
def test_a_search_keeps_a_limit_on_predicted_latency(tmp_path: Path) -> None:
    predictor().save(tmp_path / "p.json")
    limit = 1.2 * PredictorMeter(predictor=tmp_path / "p.json").graph_ms(make_space(load_task("digits")).start)
    latency = ("--latency.meter=predictor", "--latency.predictor=p.json", "--latency.command=null")
    space = ("--space.max_predicted_ms=1.2x", '--space.variants=["widen 1.5", "widen 2"]')
    run = ("--evaluations=8", "--run.name=a", "--final.random_baseline=false")
    done = rlnas("train", "--config", CONFIG, *QUICK, *latency, *space, *run, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in (tmp_path / "runs" / "a" / "events.jsonl").read_text().splitlines()]
    found = [event["values"]["latency_ms"] for event in events if event["kind"] == "evaluation"]
    assert len(found) == 8 and len(set(found)) > 1 and max(found) <= limit


def test_a_limit_on_predicted_latency_is_kept_by_the_mask() -> None:
    task = load_task("digits")

    def predict(graph: Graph) -> float:
        return 0.001 * len(graph) + graph.macs / 1e6

    variants = ["widen 1.5", "widen 2"]
    free = make_space(task, variants=variants, max_macs=None)
    tight = make_space(task, variants=variants, max_macs=None, max_predicted_ms="130%", predict=predict)
    limit = 1.3 * predict(free.start)
    assert tight.limits.latency_ms == pytest.approx(limit)
    everything = free.legal(free.start, steps_left=6).sites
    legal = tight.legal(free.start, steps_left=6).sites
    assert 0 < len(legal) < len(everything)
    for action, site in everything.items():
        assert (predict(free.edited(free.start, site)) <= limit) == (action in legal)
    with pytest.raises(LimitError, match=r"predicted latency_ms <= 1e-06: .*predicted latency_ms="):
        make_space(task, max_predicted_ms=1e-6, variants=variants, predict=predict)


@pytest.mark.parametrize("setting", [0, -1, "fast", float("nan")])
def test_limits_that_make_no_sense(setting: float | str) -> None:
    with pytest.raises(ConfigError, match=r"max_predicted_ms=.* is not a limit"):
        make_space(load_task("digits"), max_predicted_ms=setting, predict=lambda graph: 1.0)
    with pytest.raises(ConfigError, match=r"max_predicted_ms=.* needs a meter that knows latency beforehand"):
        make_space(load_task("digits"), max_predicted_ms=setting)
