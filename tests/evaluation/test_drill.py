"""The fault drill: workers die, hang and fail, the main process is killed and resumed, and nothing is lost."""

import json
import os
import random
import signal
import sqlite3
import time
from collections import Counter

import pytest
import torch
from safetensors.torch import load_file

from rlnas.evaluation import Store
from rlnas.runs import read_evaluations
from tests.cli.running import environment
from tests.evaluation.drilled import FAULTS, FOLDER, KINDS, drilled_line, fault
from tests.processes import Apart

ALL = " ".join(FAULTS)
SETTINGS = (
    "--reward.cost=macs",
    "--evaluation.workers=2",
    "--evaluation.memory_limit_mb=8000",
    "--evaluation.start_epochs=0.1",
    "--evaluation.start_evaluations=5",
    "--final.random_baseline=false",
    "--final.candidates=1",
    "--final.seeds=1",
    "--final.epochs=0.1",
    "--tracking.mode=disabled",
)


def begin(folder, *words, dying, kinds):
    """The drill's command line in a process of its own."""
    extra = {KINDS: kinds}
    if dying:
        (folder / "died").mkdir(exist_ok=True)
        extra |= {FOLDER: str(folder / "died")}
    return Apart(drilled_line, words, folder=folder, variables=environment(folder) | extra)


def rows(path):
    """Rows that another process can read."""
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
            return int(connection.execute("SELECT count(*) FROM evaluations").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def finish(process):
    output = process.communicate(timeout=1800)
    assert process.returncode == 0, output


def policy(run):
    """Weights of the last checkpoint."""
    last = sorted(path for path in (run / "checkpoints" / "controller").iterdir() if path.is_dir())[-1]
    return {name: t for name, t in load_file(last / "controller.safetensors").items() if not name.startswith("rng")}


def promotions(run):
    """Networks that became the start."""
    lines = map(json.loads, (run / "events.jsonl").read_text().splitlines())
    return [line["values"] for line in lines if line["kind"] == "promote"]


def stored(run):
    """What the store holds, but for times and places."""
    with Store(run / "evaluations.sqlite", read_only=True) as store:
        found = list(store.rows())
    assert len({row.cache_key for row in found}) == len(found)
    return {r.cache_key: (r.graph_key, r.status, r.reason, r.accuracy, r.parent, r.weights) for r in found}


def drill(tmp_path, *, evaluations, kills, seed, settings, workers=2, kinds=ALL):
    """Both runs: one in which workers die and the main process is killed so many times, and one undisturbed.

    Args:
        workers: Of the undisturbed run, 2 or 0; the other has two.
        kinds: Faults that may happen.
    """
    words = ("train", *SETTINGS, f"--evaluations={evaluations}", "--run.name=drill", *settings)
    folders = {name: tmp_path / name for name in ("undisturbed", "disturbed")}
    for folder in folders.values():
        folder.mkdir()
    runs = {name: folder / "runs" / "drill" for name, folder in folders.items()}
    alone = () if workers else ("--evaluation.workers=0", "--evaluation.memory_limit_mb=null")
    finish(begin(folders["undisturbed"], *words, *alone, dying=False, kinds=kinds))
    whole, store = rows(runs["undisturbed"] / "evaluations.sqlite"), runs["disturbed"] / "evaluations.sqlite"
    generator, killed = random.Random(seed), 0
    reached = sorted(generator.sample(range(1, whole - 5), kills))
    process = begin(folders["disturbed"], *words, dying=True, kinds=kinds)
    for count in reached:
        end = time.monotonic() + 1500
        while rows(store) < count and process.poll() is None:
            assert time.monotonic() < end
            time.sleep(0.005)
        time.sleep(generator.random() * 0.3)
        os.kill(process.pid, signal.SIGKILL)
        output = process.communicate()
        assert process.returncode == -signal.SIGKILL, output
        killed += 1
        process = begin(folders["disturbed"], "resume", "runs/drill", dying=True, kinds=kinds)
    finish(process)
    assert killed == kills
    return runs["undisturbed"], runs["disturbed"], folders["disturbed"] / "died"


def check(undisturbed, disturbed, died, *, evaluations):
    """Nothing is lost, nothing is there twice, and all is as if nothing had happened."""
    expected, found = stored(undisturbed), stored(disturbed)
    assert found == expected
    logs = [read_evaluations(run / "events.jsonl", "controller") for run in (undisturbed, disturbed)]
    assert [e["evaluation"] for e in logs[1]] == list(range(1, evaluations + 1))
    kept = [[{k: v for k, v in e.items() if k != "cached"} for e in log] for log in logs]
    assert kept[0] == kept[1]
    promoted = [promotions(run) for run in (undisturbed, disturbed)]
    assert promoted[0] == promoted[1] and len(promoted[0]) >= 1
    mine, theirs = policy(disturbed), policy(undisturbed)
    assert mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)
    best = [(run / "best" / "graph.json").read_text() for run in (undisturbed, disturbed)]
    assert best[0] == best[1]
    failed = Counter(fault(graph) for graph, status, *_ in expected.values() if status == "failed")
    assert len(list(died.iterdir())) >= max(1, evaluations // 50)  # workers that died in the middle of an evaluation
    return failed


def test_a_short_drill(tmp_path):
    settings = (
        "--controller.n_envs=8",
        "--evaluation.time_limit_s=30",
        "--space.max_steps=2",
        "--space.promote_every=8",
        "--seed=5",
    )
    rest = {"settings": settings, "workers": 0, "kinds": "raise nan memory"}  # a hang would hold up what is inline
    undisturbed, disturbed, died = drill(tmp_path, evaluations=16, kills=1, seed=0, **rest)
    failed = check(undisturbed, disturbed, died, evaluations=16)
    assert sum(failed.values()) >= 1


@pytest.mark.slow
def test_300_evaluations_ten_kills(tmp_path):
    settings = (
        "--controller.n_envs=10",
        "--evaluation.time_limit_s=6",
        "--space.promote_every=100",
    )
    undisturbed, disturbed, died = drill(tmp_path, evaluations=320, kills=10, seed=0, settings=settings)
    failed = check(undisturbed, disturbed, died, evaluations=320)
    assert set(failed) == set(FAULTS)  # each kind came up
    assert len(stored(disturbed)) >= 300
