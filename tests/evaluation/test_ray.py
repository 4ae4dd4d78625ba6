"""Ray's workers do what the pool's do; each test but the first few needs seconds to start a cluster."""

import os
import pickle
import signal
import subprocess
import sys
import threading

import pytest
import torch

from rlnas.errors import ConfigError, EvaluationError
from rlnas.evaluation import InlineExecutor, JobLimits, RayExecutor, Service, Store, TrainingEvaluator
from rlnas.runs import read_evaluations
from tests.evaluation.faults import (
    CountingMeter,
    FaultyEvaluator,
    candidates,
    library,
    start_network,
    tiny_task,
    widened,
)
from tests.evaluation.test_drill import SETTINGS, begin, finish, policy, rows
from tests.evaluation.test_pool import Unloadable, alive, evaluate, wait_until

pytest.importorskip("ray")


@pytest.fixture(scope="module")
def task():
    return tiny_task()


@pytest.fixture(scope="module")
def start():
    return start_network()


@pytest.fixture(scope="module")
def executor():
    """Two actors on a cluster of this machine."""
    made = RayExecutor(2, limits=JobLimits(time_limit_s=8.0))
    yield made
    made.close()


def test_without_ray_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'rlnas\[ray\]'") as error:
        RayExecutor(2)
    assert "\n" not in str(error.value)


def test_an_executor_that_never_ran_can_be_copied_and_closed():
    made = RayExecutor(2, address="auto", limits=JobLimits(time_limit_s=3))
    copy = pickle.loads(pickle.dumps(made))
    assert (copy._address, copy._limits) == (made._address, made._limits)
    made.close()
    copy.close()
    with pytest.raises(ConfigError, match="workers=0"):
        RayExecutor(0)


@pytest.mark.slow
def test_results_are_those_of_other_executors(task, start, executor):
    evaluator = TrainingEvaluator(task, epochs=1)
    batch = candidates(start, "", "widen", "insert_residual", "prune_channels", "deepen")
    batch.append(batch[1])
    runs = [evaluate(task, start, evaluator, batch, e, meter=CountingMeter()) for e in (InlineExecutor(), executor)]
    found = [[(e.cache_key, e.status, e.metrics, e.trained.content_hash) for e in run] for run in runs]
    assert found[0] == found[1]
    assert [e.status for e in runs[0]] == ["ok"] * 6


@pytest.mark.slow
def test_failures_crashes_and_hangs_become_rows_and_the_rest_goes_on(tmp_path, task, start, executor):
    batch = widened(start, 8)
    kinds = ["ok", "crash", "crash once", "hang", "raise", "nan", "memory", "ok"]
    evaluator = FaultyEvaluator(dict(zip([c.graph.key for c in batch], kinds, strict=True)), folder=str(tmp_path))
    found = evaluate(task, start, evaluator, batch, executor)
    assert [e.reason for e in found] == [
        None,
        "worker died",
        None,
        "took longer than 8 s",
        "ValueError: something went wrong",
        "the training loss is not finite",
        "out of memory: MemoryError",
        None,
    ]
    calls = evaluator.calls()
    assert [calls.count(c.graph.key) for c in batch][:6] == [1, 2, 2, 1, 1, 1]
    undisturbed = evaluate(task, start, FaultyEvaluator(), batch, InlineExecutor())
    for index in (0, 2, 7):
        assert found[index].metrics == undisturbed[index].metrics


@pytest.mark.slow
def test_an_evaluator_that_cannot_be_sent_is_an_error(task, start, executor):
    with pytest.raises(EvaluationError, match="cannot take over the evaluator and the task: ValueError"):
        evaluate(task, start, Unloadable(), candidates(start, ""), executor)
    assert evaluate(task, start, FaultyEvaluator(), candidates(start, ""), executor)[0].status == "ok"


@pytest.mark.slow
def test_an_abandoned_batch_leaves_no_job_behind(tmp_path, task, start, executor):
    batch = widened(start, 4)
    evaluator = FaultyEvaluator({c.graph.key: "wait" for c in batch[1:]}, folder=str(tmp_path))
    made = Service(evaluator, task, starts=library(start), store=Store(), executor=executor)

    def interrupt(index, evaluation):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made.evaluate(batch, seed=0, on_result=interrupt)
    assert [row.graph_key for row in made.store.rows()] == [batch[0].graph.key] and made.in_work == 0
    assert all(actor.state.name != "BUSY" for actor in executor._actors)
    (tmp_path / "go").touch()
    assert [e.status for e in made.evaluate(batch, seed=0)] == ["ok"] * 4


@pytest.fixture
def alone(executor):
    """The module's cluster gives way to one of the test's own."""
    executor.close()


@pytest.mark.slow
def test_a_memory_limit_holds(task, start, alone):
    batch = widened(start, 2)
    evaluator = FaultyEvaluator({batch[0].graph.key: "allocate"})
    made = RayExecutor(1, limits=JobLimits(memory_limit_mb=3500))
    try:
        found = evaluate(task, start, evaluator, batch, made)
        assert [e.status for e in found] == ["failed", "ok"]
        assert found[0].reason.startswith("out of memory: ")
    finally:
        made.close()
    made = RayExecutor(1, limits=JobLimits(memory_limit_mb=50))
    try:
        with pytest.raises(EvaluationError, match="memory_limit_mb=50 is too small"):
            evaluate(task, start, evaluator, batch, made)
    finally:
        made.close()


@pytest.mark.slow
def test_no_cluster_is_one_clear_line(task, start, alone):
    made = RayExecutor(1, address="127.0.0.1:1")
    with pytest.raises(EvaluationError, match=r"cannot reach a Ray cluster at address='127\.0\.0\.1:1'") as error:
        evaluate(task, start, FaultyEvaluator(), candidates(start, ""), made)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_a_lost_node_costs_what_is_in_work_there_which_is_done_again(tmp_path, task, start, alone):
    """Two nodes of one processor each; one goes away in the middle of an evaluation."""
    import ray
    from ray.cluster_utils import Cluster

    batch = widened(start, 6)
    undisturbed = evaluate(task, start, FaultyEvaluator(), batch, InlineExecutor())
    evaluator = FaultyEvaluator({batch[4].graph.key: "wait", batch[5].graph.key: "wait"}, folder=str(tmp_path))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made = RayExecutor(2, address=cluster.address, limits=JobLimits(retries=0))
    try:
        second = cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()

        def lose() -> None:
            try:
                wait_until(lambda: len(evaluator.calls()) == 6, limit_s=180)  # the last two are in work
                cluster.remove_node(second, allow_graceful=False)
                gone = lambda: len(evaluator.calls()) == 6 and sum(n["Alive"] for n in ray.nodes()) == 1  # noqa: E731
                wait_until(gone, limit_s=180)
            finally:
                (tmp_path / "go").touch()

        thread = threading.Thread(target=lose)
        thread.start()
        found = evaluate(task, start, evaluator, batch, made)
        thread.join()
    finally:
        made.close()
        ray.shutdown()
        cluster.shutdown()
    assert [(e.status, e.metrics) for e in found] == [(e.status, e.metrics) for e in undisturbed]
    calls = evaluator.calls()
    assert [calls.count(c.graph.key) for c in batch[:4]] == [1, 1, 1, 1]
    assert sorted(calls.count(c.graph.key) for c in batch[4:]) == [1, 2]  # one was lost with its node


@pytest.mark.slow
def test_actors_end_with_a_killed_main_process(tmp_path, alone):
    code = (
        "import ray, sys, time; from rlnas.evaluation import RayExecutor, Service, Store\n"
        "from tests.evaluation.faults import *\n"
        "start = start_network(); batch = widened(start, 2)\n"
        f"evaluator = FaultyEvaluator({{c.graph.key: 'wait' for c in batch}}, folder={str(tmp_path)!r})\n"
        "made = Service(evaluator, tiny_task(), starts=library(start), store=Store(), executor=RayExecutor(2))\n"
        "made.evaluate(batch, seed=0)\n"
    )
    mark = f"MARKED_FOR_A_TEST={tmp_path}"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | dict([mark.split("=")]),
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    evaluator = FaultyEvaluator(folder=str(tmp_path))
    wait_until(lambda: len(evaluator.calls()) == 2, limit_s=60)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()

    def left():
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/environ", "rb") as environ:
                    found += [pid] if mark.encode() in environ.read() and alive(pid) else []
            except OSError:
                continue
        return found

    wait_until(lambda: not left(), limit_s=120)


@pytest.mark.slow
def test_a_search_is_killed_and_resumed(tmp_path, alone):
    settings = ("--evaluations=20", "--evaluation.memory_limit_mb=null", "--space.max_steps=2")
    words = ("train", *SETTINGS, *settings, "--evaluation.backend=ray", "--run.name=ray")
    process = begin(tmp_path, *words, dying=False, kinds="raise nan")
    run = tmp_path / "runs" / "ray"
    try:
        wait_until(lambda: rows(run / "evaluations.sqlite") >= 9 or process.poll() is not None, limit_s=240)
    finally:
        process.kill()
        output = process.communicate()
    assert process.returncode == -signal.SIGKILL, output
    finish(begin(tmp_path, "resume", "runs/ray", dying=False, kinds="raise nan"))
    inline = ("--evaluation.workers=0", "--run.name=inline")
    finish(begin(tmp_path, "train", *SETTINGS, *settings, *inline, dying=False, kinds="raise nan"))
    found, expected = (read_evaluations(tmp_path / "runs" / name / "events.jsonl") for name in ("ray", "inline"))
    assert [e | {"cached": None} for e in found] == [e | {"cached": None} for e in expected]
    mine, theirs = (policy(tmp_path / "runs" / name) for name in ("ray", "inline"))
    assert mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)
    with Store(run / "evaluations.sqlite", read_only=True) as store:
        assert {row.worker.split()[0] for row in store.rows() if "drill" in row.recipe} == {"ray"}
