"""What the service's workers get done beside bare training: evaluations a second, as a share of two bare processes'.

In each round two bare processes train half of the networks each, without rlnas's service, store or queue; then the
service trains as many with two worker processes; then with two Ray actors (with --ray). All processes have been started
and warmed up before the first round, and the rounds are interleaved, so that a machine that drifts or is shared cancels
out. Latency is not measured.

On a machine that others load, the shares scatter. Two figures scatter less: the share of the time in which the workers
were at a job, and the processor time that the main process takes for an evaluation beside that of the training itself.

    python benchmarks/throughput.py --ray
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from rlnas.envs.make import make_space
from rlnas.evaluation import (
    Candidate,
    Executor,
    RayExecutor,
    Service,
    StartLibrary,
    Store,
    TrainingEvaluator,
    WorkerPool,
    build,
)
from rlnas.network import Network
from rlnas.operators import OPERATORS
from rlnas.report import mean_interval
from rlnas.tasks import Task, load_task

WORKERS = 2
LEAST = {"processes": 0.95, "ray": 0.85}
RECIPE = {"optimizer": "adamw", "learning_rate": 0.01, "weight_decay": 0.01}


def make(epochs: float) -> tuple[Task, TrainingEvaluator, Network, Candidate]:
    """The digits task, its evaluator, the start network and a candidate."""
    task = load_task("digits")
    start = Network.initialize(make_space(task).start, generator=torch.Generator().manual_seed(0))
    widen = OPERATORS["widen"]
    site = widen.sites(start.graph)[0]
    candidate = Candidate(widen.edit(start.graph, site).graph, start.content_hash, (site,))
    return task, TrainingEvaluator(task, epochs=epochs, **RECIPE), start, candidate


def bare(pipe: Connection, epochs: float) -> None:
    """A process that trains networks when told to, and says how long it took on the clock and on the processor."""
    torch.set_num_threads(1)
    task, evaluator, start, candidate = make(epochs)
    while (seeds := pipe.recv()) is not None:
        begun, begun_cpu = time.perf_counter(), time.process_time()
        for seed in seeds:
            assert evaluator.evaluate(build(candidate, start, task), seed=seed).metrics is not None
        pipe.send((time.perf_counter() - begun, time.process_time() - begun_cpu))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--networks", type=int, default=40, help="networks in a round; few let the last one count")
    parser.add_argument("--epochs", type=float, default=3, help="passes over the training data for each network")
    parser.add_argument("--ray", action="store_true", help="also on Ray")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    task, evaluator, start, candidate = make(arguments.epochs)
    context = multiprocessing.get_context("spawn")
    pipes: list[Connection] = []
    for _ in range(WORKERS):
        ours, theirs = context.Pipe()
        context.Process(target=bare, args=(theirs, arguments.epochs), daemon=True).start()
        pipes.append(ours)
    executors: dict[str, Executor] = {"processes": WorkerPool(WORKERS)}
    if arguments.ray:
        executors["ray"] = RayExecutor(WORKERS)
    starts = StartLibrary()
    starts.add(start)
    used = 0

    def seeds(n: int) -> range:
        nonlocal used
        used += n
        return range(used - n, used)

    with tempfile.TemporaryDirectory() as folder:
        services = {
            name: Service(
                evaluator,
                task,
                starts=starts,
                store=Store(Path(folder) / f"{name}.sqlite", weights_mb=256),
                executor=executor,
            )
            for name, executor in executors.items()
        }

        def bare_rate(n: int) -> float:
            for pipe in pipes:
                pipe.send(seeds(n // WORKERS))
            took = [pipe.recv() for pipe in pipes]
            training_cpu.append(sum(cpu for _, cpu in took) / n)
            return sum((n // WORKERS) / wall for wall, _ in took)

        def service_rate(name: str, n: int) -> float:
            begun, begun_cpu = time.perf_counter(), time.process_time()
            before = len(services[name].training_intervals)
            found = services[name].evaluate([candidate] * n, seed=seeds(n))
            assert all(e.status == "ok" and not e.cached for e in found)
            took = time.perf_counter() - begun
            own_cpu[name].append((time.process_time() - begun_cpu) / n)
            at_work[name].append(sum(b - a for a, b in services[name].training_intervals[before:]) / (WORKERS * took))
            return n / took

        training_cpu: list[float] = []
        own_cpu: dict[str, list[float]] = {name: [] for name in services}
        at_work: dict[str, list[float]] = {name: [] for name in services}
        bare_rate(2 * WORKERS)
        for name in services:
            service_rate(name, 2 * WORKERS)
        shares: dict[str, list[float]] = {name: [] for name in services}
        rates: dict[str, list[float]] = {name: [] for name in ("bare", *services)}
        for number in range(arguments.rounds):
            before = bare_rate(arguments.networks)
            measured = {name: service_rate(name, arguments.networks) for name in services}
            base = statistics.mean((before, bare_rate(arguments.networks)))  # bare on both sides of the others
            rates["bare"].append(base)
            for name, rate in measured.items():
                rates[name].append(rate)
                shares[name].append(rate / base)
            words = ", ".join(f"{name} {values[-1]:.2f}" for name, values in rates.items())
            print(f"round {number + 1}: evaluations a second: {words}", file=sys.stderr, flush=True)
        for service in services.values():
            service.close()
    for pipe in pipes:
        pipe.send(None)
    print(f"digits, {arguments.networks} networks of {arguments.epochs:g} epochs a round, {arguments.rounds} rounds")
    for name, values in shares.items():
        found = mean_interval(values)
        low, high = found.interval or (float("nan"), float("nan"))
        print(
            f"{name:10} {statistics.mean(rates[name]):.2f} a second, bare {statistics.mean(rates['bare']):.2f}: "
            f"{100 * found.mean:.1f} % [{100 * low:.1f}, {100 * high:.1f}], median "
            f"{100 * statistics.median(values):.1f} % (at least {100 * LEAST[name]:.0f} %)"
        )
        print(
            f"{'':10} workers at a job {100 * statistics.median(at_work[name][1:]):.1f} % of the time; the main "
            f"process takes "
            f"{1e3 * statistics.median(own_cpu[name][1:]):.1f} ms of processor time an evaluation, training "
            f"{1e3 * statistics.median(training_cpu[1:]):.0f} ms"
        )


if __name__ == "__main__":
    main()
