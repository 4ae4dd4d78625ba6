import os
import pickle
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from rlnas.errors import ConfigError, EvaluationError
from rlnas.evaluation import InlineExecutor, Job, JobLimits, Outcome, Service, Store, TrainingEvaluator, WorkerPool
from rlnas.evaluation.jobs import carry_out
from rlnas.evaluation.memory import data_mb
from rlnas.evaluation.worker import pack, unpack
from tests.evaluation import killed
from tests.evaluation.faults import (
    CountingMeter,
    FaultyEvaluator,
    candidates,
    library,
    start_network,
    tiny_task,
    widened,
)


@pytest.fixture(scope="module")
def task():
    return tiny_task()


@pytest.fixture(scope="module")
def start():
    return start_network()


@pytest.fixture(scope="module")
def pool():
    """Two processes for all tests that do not harm them; the time limit is for one that does."""
    made = WorkerPool(2, limits=JobLimits(time_limit_s=8.0))
    yield made
    made.close()


def evaluate(task, start, evaluator, batch, executor, **rest):
    made = Service(evaluator, task, starts=library(start), store=Store(), executor=executor, **rest)
    return made.evaluate(batch, seed=0)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition, limit_s=20.0):
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_messages_survive():
    header = {"kind": "job", "text": "ä"}
    assert unpack(pack(header, b"\x00\xff")) == (header, b"\x00\xff")


def test_jobs_and_outcomes_survive_sending(task, start):
    for candidate in candidates(start, "widen", "deepen"):
        job = Job(candidate, seed=2**63 - 1, keep=True)
        again = Job.from_json(job.to_json())
        assert (again.seed, again.keep, again.candidate.graph.key) == (job.seed, True, candidate.graph.key)
        outcome = carry_out(job, start=start, evaluator=FaultyEvaluator(), task=task)
        back = Outcome.from_message(*outcome.to_message())
        assert back.evaluation.metrics == outcome.evaluation.metrics
        assert back.evaluation.trained.content_hash == outcome.evaluation.trained.content_hash
        assert (back.interval, back.worker) == (outcome.interval, "inline")


@pytest.mark.parametrize("limits", [{"time_limit_s": 0}, {"retries": -1}, {"memory_limit_mb": 0}])
def test_arguments_that_make_no_sense_are_refused(limits):
    with pytest.raises(ConfigError, match=next(iter(limits))):
        JobLimits(**limits)
    with pytest.raises(ConfigError, match="workers=0"):
        WorkerPool(0)


def test_results_do_not_depend_on_the_executor(task, start, pool):
    evaluator = TrainingEvaluator(task, epochs=1)
    operators = ["", "widen", "insert_residual", "prune_channels", "deepen", "remove_layer", "grow_kernel"]
    batch = candidates(start, *operators)
    batch.append(batch[1])
    runs = [evaluate(task, start, evaluator, batch, executor) for executor in (InlineExecutor(), pool, WorkerPool(1))]
    found = [[(e.cache_key, e.status, e.metrics, e.trained.content_hash) for e in run] for run in runs]
    assert found[0] == found[1] == found[2]
    assert [e.status for e in runs[0]] == ["ok"] * 8


def test_failures_are_the_same_in_processes_and_the_processes_go_on(task, start, pool):
    batch = candidates(start, "", "widen", "insert_residual", "deepen")
    keys = [c.graph.key for c in batch]
    evaluator = FaultyEvaluator(dict(zip(keys[1:], ["raise", "memory", "nan"], strict=True)))
    inline, processes = (evaluate(task, start, evaluator, batch, e) for e in (InlineExecutor(), pool))
    assert [(e.status, e.reason, e.metrics) for e in inline] == [(e.status, e.reason, e.metrics) for e in processes]
    assert [e.reason for e in processes][1:3] == ["ValueError: something went wrong", "out of memory: MemoryError"]


def test_crashes_and_hangs_become_rows_and_the_rest_goes_on(tmp_path, task, start, pool):
    batch = widened(start, 6)
    behaviours = dict(zip([c.graph.key for c in batch], ["ok", "crash", "crash once", "hang", "ok", "ok"], strict=True))
    evaluator = FaultyEvaluator(behaviours, folder=str(tmp_path))
    found = evaluate(task, start, evaluator, batch, pool)
    assert [e.reason for e in found] == [None, "worker died (exit code 7)", None, "took longer than 8 s", None, None]
    undisturbed = evaluate(task, start, FaultyEvaluator(), batch, InlineExecutor())
    for index in (0, 2, 4, 5):
        assert found[index].metrics == undisturbed[index].metrics
    calls = evaluator.calls()
    assert [calls.count(c.graph.key) for c in batch] == [1, 2, 2, 1, 1, 1]


@pytest.mark.parametrize("retries", [0, 2])
def test_tries_are_limited_and_noted(tmp_path, task, start, retries):
    (candidate,) = candidates(start, "widen")
    evaluator = FaultyEvaluator({candidate.graph.key: "crash"}, folder=str(tmp_path))
    made = Service(evaluator, task, starts=library(start), store=Store(), workers=1, limits=JobLimits(retries=retries))
    with made:
        (found,) = made.evaluate([candidate], seed=0)
        assert found.reason == "worker died (exit code 7)"
        assert len(evaluator.calls()) == retries + 1 == next(made.store.rows()).tries


def test_a_job_that_takes_too_much_memory_fails_and_the_rest_goes_on(tmp_path, task, start):
    batch = widened(start, 4)
    behaviours = dict(zip([c.graph.key for c in batch], ["ok", "hoard", "allocate", "hoard"], strict=True))
    evaluator = FaultyEvaluator(behaviours, folder=str(tmp_path))
    before = min(data_mb(), 1000)  # about what a fresh process has; this one may hold much from other tests
    made = WorkerPool(1, limits=JobLimits(memory_limit_mb=before + 2500, retries=0))
    try:
        found = evaluate(task, start, evaluator, batch, made)
    finally:
        made.close()
    assert [e.status for e in found] == ["ok", "ok", "failed", "ok"]
    assert found[2].reason.startswith("out of memory: RuntimeError: ")
    calls = evaluator.calls()
    # The third was tried again, once, in a fresh process: what the jobs before it left behind does not count.
    assert [calls.count(c.graph.key) for c in batch] == [1, 1, 2, 1]


def test_a_memory_limit_that_is_too_small_is_one_clear_error(task, start):
    made = WorkerPool(1, limits=JobLimits(memory_limit_mb=50))
    with pytest.raises(EvaluationError, match=r"memory_limit_mb=50 is too small: .* give it at least \d+") as error:
        evaluate(task, start, FaultyEvaluator(), candidates(start, ""), made)
    assert "\n" not in str(error.value)
    made.close()


def test_latency_is_measured_when_no_process_is_working(task, start, pool):
    states = []

    class WatchingMeter(CountingMeter):
        def measure(self, networks):
            states.extend(worker.state.name for worker in pool._workers)
            return super().measure(networks)

    batch = widened(start, 4)
    found = evaluate(task, start, FaultyEvaluator(), batch, pool, meter=WatchingMeter())
    assert [e.metrics.latency_ms for e in found] == [c.graph.macs * 1e-6 for c in batch]
    assert len(states) == 8 and set(states) == {"IDLE"}


def test_an_abandoned_batch_leaves_no_job_behind(tmp_path, task, start, pool):
    batch = widened(start, 4)
    evaluator = FaultyEvaluator({c.graph.key: "wait" for c in batch[1:]}, folder=str(tmp_path))
    made = Service(evaluator, task, starts=library(start), store=Store(), executor=pool)

    def interrupt(index, evaluation):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made.evaluate(batch, seed=0, on_result=interrupt)
    assert [row.graph_key for row in made.store.rows()] == [batch[0].graph.key]
    assert all(worker.state.name != "BUSY" for worker in pool._workers)
    (tmp_path / "go").touch()
    assert [e.status for e in made.evaluate(batch, seed=0)] == ["ok"] * 4


class Unloadable:
    """Can be pickled but not unpickled."""

    recipe, deterministic = "{}", True

    def __reduce__(self):
        return int, ("no number",)


def test_an_evaluator_that_cannot_be_sent_is_an_error_and_not_a_row(task, start, pool):
    with pytest.raises(EvaluationError, match="cannot take over the evaluator and the task: ValueError"):
        evaluate(task, start, Unloadable(), candidates(start, ""), pool)


def test_a_process_lost_while_idle_is_replaced(task, start, pool):
    evaluator = FaultyEvaluator()
    evaluate(task, start, evaluator, candidates(start, ""), pool)
    for worker in pool._workers:
        os.kill(worker.process.pid, signal.SIGKILL)
    assert [e.status for e in evaluate(task, start, evaluator, widened(start, 2), pool)] == ["ok", "ok"]


def test_a_pool_that_never_ran_can_be_copied_and_closed():
    made = WorkerPool(2, limits=JobLimits(time_limit_s=3))
    copy = pickle.loads(pickle.dumps(made))
    made.close()
    copy.close()


def test_processes_that_cannot_start_are_one_clear_error(task, start, monkeypatch):
    monkeypatch.setattr("rlnas.evaluation.process.work", os._exit)  # what the process is to run: ends at once
    made = WorkerPool(1)
    with pytest.raises(EvaluationError, match="3 worker processes in a row ended while importing") as error:
        evaluate(task, start, FaultyEvaluator(), candidates(start, ""), made)
    assert "__main__" in str(error.value)
    made.close()


def test_kill_9_in_mid_batch_keeps_what_is_finished_and_ends_the_processes(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.evaluation.killed", str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        for _ in range(killed.FINISHING):
            assert process.stdout.readline().startswith("done")
        evaluator = FaultyEvaluator(folder=str(tmp_path))
        wait_until(lambda: len(evaluator.calls()) == killed.FINISHING + 2)  # both processes are at work
        with open(f"/proc/{process.pid}/task/{process.pid}/children") as children:
            pids = [int(pid) for pid in children.read().split()]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert len(pids) >= 2
    wait_until(lambda: not any(alive(pid) for pid in pids))
    with Store(tmp_path / "store.sqlite", read_only=True) as store:
        rows = list(store.rows())
    assert len(rows) == killed.FINISHING and all(row.status == "ok" for row in rows)
    start = start_network()
    batch = widened(start, 10)
    before = len(evaluator.calls())
    with Service(evaluator, tiny_task(), starts=library(start), store=Store(tmp_path / "store.sqlite")) as resumed:
        found = resumed.evaluate(batch, seed=0)
        assert resumed.store.count() == 10
    assert len(evaluator.calls()) - before == 10 - killed.FINISHING
    undisturbed = evaluate(tiny_task(), start, FaultyEvaluator(), batch, InlineExecutor())
    assert [e.metrics for e in found] == [e.metrics for e in undisturbed]


def test_ctrl_c_does_not_reach_a_process_that_is_still_importing():
    code = (
        "from rlnas.evaluation.process import Worker; worker = Worker.launch()\n"
        "print(open(f'/proc/{worker.process.pid}/status').read()); worker.end()"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    blocked = next(int(line.split()[1], 16) for line in output.splitlines() if line.startswith("SigBlk"))
    assert blocked & 1 << (signal.SIGINT - 1)


def test_ctrl_c_reaches_the_main_process_only(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.evaluation.killed", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout.readline().startswith("done")
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process of the group
        _, errors = process.communicate(timeout=30)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert errors.count("Traceback") == 1 and errors.rstrip().endswith("KeyboardInterrupt")
    with Store(tmp_path / "store.sqlite", read_only=True) as store:
        assert 1 <= store.count() <= killed.FINISHING


@pytest.mark.slow
def test_fault_drill(tmp_path, task, start):
    """Forty evaluations in two processes, of which ten crash, hang, raise or run out of memory; each has one row."""
    batch = widened(start, 40)
    wrong = ["crash", "crash once", "hang", "raise", "memory", "nan", "crash once", "crash", "hang", "crash once"]
    behaviours = {c.graph.key: b for c, b in zip(batch[::4], wrong, strict=True)}
    evaluator = FaultyEvaluator(behaviours, folder=str(tmp_path))
    store = Store(tmp_path / "store.sqlite")
    with Service(
        evaluator, task, starts=library(start), store=store, workers=2, limits=JobLimits(time_limit_s=1.0)
    ) as made:
        found = made.evaluate(batch, seed=0)
        keys = [row.cache_key for row in store.rows()]
    assert len(keys) == len(set(keys)) == 40
    undisturbed = evaluate(task, start, FaultyEvaluator(), batch, InlineExecutor())
    for candidate, one, other in zip(batch, found, undisturbed, strict=True):
        if behaviours.get(candidate.graph.key, "ok") in ("ok", "crash once"):
            assert one.metrics == other.metrics
        else:
            assert one.status == "failed" and one.reason
