"""Trackers: what they write, that nothing written is lost, and that nothing lands elsewhere."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlnas.errors import ConfigError, RunError
from rlnas.tracking import JsonlTracker, NullTracker, TeeTracker, Tracker, flatten, make_tracker, resolve_mode
from tests.stub_wandb import ROOT, read_config, read_history, read_records, read_run, run_files, wandb_environment


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def bare(entries: list[dict[str, Any]]) -> list[tuple[str, int, Any]]:
    return [(e["kind"], e["step"], e["values"]) for e in entries]


def test_jsonl_lines(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    tracker = JsonlTracker(path)
    before = time.time()
    tracker.log({"eval/reward": 1.5, "eval/status": "ok", "eval/operators": "widen(conv1, 2.0)"}, step=1)
    tracker.event("promote", {"start_id": "abc", "path": Path("a/b"), "nested": {"values": (1, np.float32(0.5))}})
    # each line is readable before the tracker is closed
    entries = lines(path)
    assert bare(entries) == [
        ("log", 1, {"eval/reward": 1.5, "eval/status": "ok", "eval/operators": "widen(conv1, 2.0)"}),
        ("promote", 1, {"start_id": "abc", "path": "a/b", "nested": {"values": [1, 0.5]}}),
    ]
    assert all(before - 1 < e["time"] < before + 60 for e in entries)
    tracker.close()


def test_jsonl_writes_null_for_what_is_no_number(tmp_path: Path) -> None:
    tracker = JsonlTracker(tmp_path / "events.jsonl")
    values: dict[str, Any] = {"a": math.nan, "b": -math.inf, "c": np.float64("nan"), "d": None, "e": [math.nan, 1.0]}
    tracker.log(values, step=0)
    tracker.close()
    text = (tmp_path / "events.jsonl").read_text()
    assert "NaN" not in text and "Infinity" not in text
    assert json.loads(text)["values"] == {"a": None, "b": None, "c": None, "d": None, "e": [None, 1.0]}


def test_jsonl_resumes_at_an_offset(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    tracker = JsonlTracker(path)
    tracker.log({"x": 1}, step=1)
    offset = tracker.offset()
    assert offset == path.stat().st_size
    tracker.log({"x": 2}, step=2)
    tracker.close()

    again = JsonlTracker(path)
    again.truncate(offset)
    again.log({"x": 3}, step=2)
    again.close()
    assert bare(lines(path)) == [("log", 1, {"x": 1}), ("log", 2, {"x": 3})]


@given(cut=st.integers(0, 400), offset=st.integers(0, 500))
def test_jsonl_survives_a_cut_anywhere(tmp_path_factory: pytest.TempPathFactory, cut: int, offset: int) -> None:
    path = tmp_path_factory.mktemp("cut") / "events.jsonl"
    first = JsonlTracker(path)
    for number in range(4):
        first.log({"x": number, "text": "word " * number}, step=number)
    first.close()
    whole = path.read_bytes()[:cut]
    path.write_bytes(whole)

    again = JsonlTracker(path)
    again.truncate(offset)
    again.log({"x": 99}, step=9)
    again.close()
    kept = whole[: min(len(whole), offset)].count(b"\n")
    values = [e["values"].get("x") for e in lines(path) if e["kind"] == "log"]
    assert values == [*range(kept), 99]


def test_jsonl_cuts_a_long_unfinished_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"kind": "log"}\n' + b"x" * 200_000)
    JsonlTracker(path).close()
    assert path.read_bytes() == b'{"kind": "log"}\n'


def test_jsonl_says_when_the_file_became_shorter(tmp_path: Path) -> None:
    tracker = JsonlTracker(tmp_path / "events.jsonl")
    tracker.log({"x": 1}, step=1)
    tracker.truncate(tracker.offset() + 10)
    tracker.close()
    assert [(e["kind"], e["values"]) for e in lines(tmp_path / "events.jsonl")][1:] == [
        ("log_damaged", {"missing_bytes": 10})
    ]


def test_jsonl_unwritable(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"cannot write .*No such file"):
        JsonlTracker(tmp_path / "missing" / "events.jsonl")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_jsonl_full_disk() -> None:
    tracker = JsonlTracker.__new__(JsonlTracker)
    tracker.path, tracker._step = Path("/dev/full"), 0
    with open("/dev/full", "wb", buffering=0) as tracker._file, pytest.raises(RunError, match="No space left"):
        tracker.log({"x": 1}, step=1)


@pytest.mark.parametrize(
    ("setting", "environ", "mode"),
    [
        (None, {}, "offline"),
        (None, {"WANDB_MODE": ""}, "offline"),
        (None, {"WANDB_SWEEP_ID": "abc"}, "online"),
        (None, {"WANDB_SWEEP_ID": "abc", "WANDB_MODE": "offline"}, "offline"),
        (None, {"WANDB_MODE": "online"}, "online"),
        (None, {"WANDB_MODE": "dryrun"}, "offline"),
        (None, {"WANDB_MODE": "disabled"}, "disabled"),
        ("offline", {"WANDB_MODE": "online", "WANDB_SWEEP_ID": "abc"}, "offline"),
        ("disabled", {"WANDB_SWEEP_ID": "abc"}, "disabled"),
        ("online", {"WANDB_MODE": "nonsense"}, "online"),
    ],
)
def test_resolve_mode(setting: str | None, environ: dict[str, str], mode: str) -> None:
    assert resolve_mode(setting, environ) == mode


def test_unknown_mode() -> None:
    with pytest.raises(ConfigError, match=r"tracking\.mode.*'oflline'.*'offline'.*disabled"):
        resolve_mode("oflline", {})
    with pytest.raises(ConfigError, match=r"WANDB_MODE.*'shared'"):
        resolve_mode(None, {"WANDB_MODE": "shared"})


def test_flatten() -> None:
    nested = {"a": {"b": 1, "c": {"d": [1, 2]}}, "e": None, "f": {}}
    assert flatten(nested) == {"a.b": 1, "a.c.d": [1, 2], "e": None, "f": {}}
    assert flatten(flatten(nested)) == flatten(nested)


class Failing(NullTracker):
    def close(self) -> None:
        raise RunError("no")


def test_tee_reports_to_all_and_closes_all(tmp_path: Path) -> None:
    paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    second: Tracker = JsonlTracker(paths[1])
    tee = TeeTracker(JsonlTracker(paths[0]), second, Failing())
    tee.log({"x": 1}, step=3)
    tee.event("end", {"y": 2})
    assert tee.offset() == paths[0].stat().st_size
    with pytest.raises(RunError, match="no"):
        tee.close()
    assert bare(lines(paths[0])) == bare(lines(paths[1])) == [("log", 3, {"x": 1}), ("end", 3, {"y": 2})]
    with pytest.raises(ValueError, match="closed"):
        second.log({}, step=4)


def test_disabled_writes_events_only_and_imports_no_wandb(tmp_path: Path) -> None:
    code = f"""
import sys
from rlnas.tracking import make_tracker
tracker = make_tracker({str(tmp_path)!r}, mode="disabled", project="p", config={{}})
tracker.log({{"x": 1}}, step=1)
tracker.close()
assert "wandb" not in sys.modules and "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=ROOT)
    assert [p.name for p in tmp_path.iterdir()] == ["events.jsonl"]


def test_make_tracker_resumes(tmp_path: Path) -> None:
    first = make_tracker(tmp_path, mode="disabled", project="p", config={})
    first.log({"x": 1}, step=1)
    offset = first.offset()
    first.log({"x": 2}, step=2)
    first.close()
    second = make_tracker(tmp_path, mode="disabled", project="p", config={}, offset=offset)
    second.log({"x": 3}, step=2)
    second.close()
    assert [e["values"]["x"] for e in lines(tmp_path / "events.jsonl")] == [1, 3]


PROGRAM = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
from rlnas.tracking import make_tracker, resolve_mode
tracker = make_tracker(
    "run", mode=resolve_mode(None, os.environ), project="some-project", config={"controller": {"learning_rate": 0.01}}
)
for step in range(1, 4):
    values = {"eval/accuracy": 0.9 + step / 100, "eval/latency_ms": None, "best/reward": float(step)}
    tracker.log(values, step=10 * step)
tracker.log({"eval/accuracy": float("nan"), "eval/status": "failed"}, step=40)
tracker.event("evaluation", {"accuracy": 0.5})
tracker.event("winner", {"accuracy": 0.97, "edits": {"first": "widen"}})
if sys.argv[1] == "close":
    tracker.close()
else:
    time.sleep(1.8)
    print("ready", flush=True)
    time.sleep(60)
"""


def start(tmp_path: Path, how: str, **environment: str) -> subprocess.Popen[str]:
    (tmp_path / "run").mkdir(exist_ok=True)
    env = wandb_environment(tmp_path, TMPDIR=str(tmp_path / "tmp"), **environment)
    for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DIR"):
        Path(env.pop(name)).rmdir()
    (tmp_path / "tmp").mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, how], cwd=tmp_path, env=env, text=True, stdout=subprocess.PIPE
    )


def check_complete(path: Path) -> None:
    rows = read_history(path)
    assert [r["search/evaluations"] for r in rows] == [10, 20, 30, 40]
    assert [r.get("best/reward") for r in rows] == [1.0, 2.0, 3.0, None]
    assert rows[0]["eval/accuracy"] == 0.91 and "eval/latency_ms" not in rows[0]
    assert rows[3]["eval/status"] == "failed" and "eval/accuracy" not in rows[3]
    config = read_config(path)
    assert config.pop("_wandb") is not None
    assert config == {"controller.learning_rate": 0.01}
    summary = {u.key or ".".join(u.nested_key): u.value_json for r in read_records(path) for u in r.summary.update}
    assert summary["winner.accuracy"] == "0.97" and summary["winner.edits.first"] == '"widen"'
    assert not [key for key in summary if key.startswith("evaluation")], "they are in the history already"
    steps = {m.glob_name or m.name: m.step_metric for m in (r.metric for r in read_records(path)) if m.ByteSize()}
    assert steps["*"] == "search/evaluations"


def test_wandb_offline(tmp_path: Path) -> None:
    process = start(tmp_path, "close")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and output == ""
    (path,) = run_files(tmp_path / "run")
    check_complete(path)
    assert read_run(path).project == "some-project" and read_run(path).display_name == "run"
    assert not read_run(path).sweep_id
    # a second run in the same directory is a new W&B run, and nothing lies outside the directory
    with start(tmp_path, "close") as process:
        assert process.wait(timeout=60) == 0
    assert len(run_files(tmp_path / "run")) == 2
    assert [e["step"] for e in lines(tmp_path / "run" / "events.jsonl")] == [10, 20, 30, 40, 40, 40] * 2
    outside = [p for p in tmp_path.rglob("*") if p.is_file() and not p.is_relative_to(tmp_path / "run")]
    assert outside == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_wandb_loses_nothing_when_ended(tmp_path: Path, number: signal.Signals) -> None:
    with start(tmp_path, "wait") as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.send_signal(number)
    assert process.returncode == (143 if number == signal.SIGTERM else -signal.SIGKILL)
    (path,) = run_files(tmp_path / "run")
    check_complete(path)
    assert wait_until_none_is_left(tmp_path)


def wait_until_none_is_left(folder: Path) -> bool:
    """Whether the processes that work in a folder end within some seconds."""
    for _ in range(100):
        if not any(works_in(entry, folder) for entry in Path("/proc").iterdir() if entry.name.isdigit()):
            return True
        time.sleep(0.1)
    return False


def works_in(process: Path, folder: Path) -> bool:
    try:
        return Path(os.readlink(process / "cwd")).is_relative_to(folder)
    except OSError:
        return False


def test_wandb_online_without_server_is_one_line(tmp_path: Path) -> None:
    code = """
from rlnas.errors import RunError
from rlnas.tracking import make_tracker
try:
    make_tracker(".", mode="online", project="p", config={})
except RunError as error:
    print(error)
"""
    env = wandb_environment(tmp_path, WANDB_BASE_URL="http://127.0.0.1:9", WANDB_INIT_TIMEOUT="5")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, text=True, capture_output=True, stdin=subprocess.DEVNULL,
        timeout=90,
    )  # fmt: skip
    assert done.stdout.startswith("cannot start W&B in mode online: ") and done.stdout.count("\n") == 1, done.stderr
