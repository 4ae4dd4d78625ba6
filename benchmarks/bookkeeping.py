"""What the service costs beside training: milliseconds an evaluation in a large store, and the time to open one.

An evaluation that trains nothing goes through cache, executor, store and back, in a store that already holds
10,000 evaluations; then a store of 100,000 is opened, counted and asked for one row. The rows are those of real
candidates (edits of the digits start network, graph included), each with the weights of its trained network.

    python benchmarks/bookkeeping.py
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from rlnas.envs import MorphProblem, make_problem
from rlnas.envs.morph_episode import MorphEpisode
from rlnas.evaluation import Candidate, Evaluation, Evaluator, Job, Metrics, Outcome, Service, StartLibrary, Store
from rlnas.evaluation.environment import environment
from rlnas.evaluation.worker import pack
from rlnas.graph import Graph
from rlnas.network import Network
from rlnas.tasks import Task

LIMIT_MS, LIMIT_S = 3.0, 1.0


class Free:
    """An evaluator that takes no time."""

    recipe = json.dumps({"evaluator": "free"})
    deterministic = True

    def work(self, graph: Graph) -> float:
        """It does nothing."""
        return 0.0

    def evaluate(self, network: Network, *, seed: int) -> Evaluation:
        """An accuracy drawn from the seed, and the network as it is."""
        accuracy = (seed % 1000) / 1000
        return Evaluation(Metrics.of_graph(network.graph, accuracy=accuracy, cost_s=0.0), trained=network)


class Handed:
    """An executor whose workers have finished all jobs already: what is left is this process's own work."""

    def __init__(self, evaluator: Free, networks: dict[str, Network]) -> None:
        self._messages = {
            key: Outcome(evaluator.evaluate(n, seed=0), (0.0, 1.0), "handed", environment(), "parent").to_message()
            for key, n in networks.items()
        }
        self._jobs: dict[int, Job] = {}
        self._numbers = 0

    def start(self, evaluator: Evaluator, task: Task) -> None:
        """All is ready."""

    def submit(self, jobs: Sequence[Job], *, evaluator: Evaluator, task: Task, starts: StartLibrary) -> list[int]:
        """Pack the jobs as for a worker."""
        numbers = list(range(self._numbers, self._numbers + len(jobs)))
        self._numbers += len(jobs)
        for job in jobs:
            pack({"kind": "job", "job": job.to_json()})
        self._jobs.update(zip(numbers, jobs, strict=True))
        return numbers

    def next(self) -> tuple[int, Outcome] | None:
        """Unpack what a worker would have sent."""
        number = next(iter(self._jobs))
        return number, Outcome.from_message(*self._messages[self._jobs.pop(number).candidate.graph.key])

    def cancel(self, numbers: Collection[int]) -> None:
        """Nothing is in work."""

    def settle(self) -> None:
        """Nothing is in work."""

    def close(self) -> None:
        """Nothing is open."""


def candidates(problem: MorphProblem, n: int) -> tuple[list[Candidate], Network]:
    """Different networks that random episodes make, and the start network."""
    rng, start = np.random.default_rng(0), Network.initialize(problem.space.start, generator=torch.Generator())
    found: dict[str, Candidate] = {}
    while len(found) < n:
        episode = MorphEpisode(problem.space)
        while not episode.ended:
            episode.step(int(rng.choice(episode.legal().actions)))
        if episode.edits:
            found[episode.graph.key] = Candidate(episode.graph, start.content_hash, tuple(episode.edits))
    return list(found.values()), start


def fill(path: Path, *, template_of: Store, n: int) -> None:
    """A store of so many rows, made of those of another."""
    rows = [row.to_row() for row in template_of.rows()]
    with Store(path) as store:
        store.count()
        names = list(rows[0])
        marks = ", ".join("?" * len(names))
        values = [rows[i % len(rows)] | {"cache_key": f"filler {i}"} for i in range(n)]
        assert store._connection is not None
        with store._connection as connection:
            connection.executemany(
                f"INSERT INTO evaluations ({', '.join(names)}) VALUES ({marks})", [tuple(v.values()) for v in values]
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--evaluations", type=int, default=300, help="evaluations that are timed")
    parser.add_argument("--repeats", type=int, default=5, help="how often a large store is opened")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    problem = make_problem("digits")
    made, start = candidates(problem, arguments.evaluations)
    evaluator = Free()
    networks = {c.graph.key: Network.initialize(c.graph, generator=torch.Generator()) for c in made}
    starts = StartLibrary()
    starts.add(start)
    with tempfile.TemporaryDirectory() as folder:
        with Store(Path(folder) / "template.sqlite", weights_mb=1000) as template:
            service = Service(
                evaluator, problem.service.task, starts=starts, store=template, executor=Handed(evaluator, networks)
            )
            service.evaluate(made[:100], seed=0)
            for n in (10_000, 100_000):
                fill(Path(folder) / f"{n}.sqlite", template_of=template, n=n)
        path = Path(folder) / "10000.sqlite"
        print(f"store of 10,000 evaluations: {path.stat().st_size / 1e6:.0f} MB")
        with Store(path, weights_mb=1000) as store:
            service = Service(
                evaluator,
                problem.service.task,
                starts=starts,
                store=store,
                executor=Handed(evaluator, networks),
                kept=0,
            )
            wall, own = [], []
            for candidate in made:
                fresh = replace(candidate, graph=Graph.from_json(candidate.graph.to_json()))  # its key is not known yet
                begun, begun_cpu = time.perf_counter(), time.process_time()
                service.evaluate([fresh], seed=1)
                wall.append(1e3 * (time.perf_counter() - begun))
                own.append(1e3 * (time.process_time() - begun_cpu))
            known = []
            for candidate in made:
                begun = time.perf_counter()
                service.evaluate([candidate], seed=1)
                known.append(1e3 * (time.perf_counter() - begun))
        opened = []
        for _ in range(arguments.repeats):
            begun = time.perf_counter()
            with Store(Path(folder) / "100000.sqlite") as store:
                assert store.count() == 100_000 and store.get("filler 99999") is not None
            opened.append(time.perf_counter() - begun)
        size = (Path(folder) / "100000.sqlite").stat().st_size / 1e6
    print(f"a new evaluation:   {_ms(wall)}; processor time {_ms(own)}   (limit {LIMIT_MS:g} ms)")
    print(f"a known evaluation: {_ms(known)}")
    print(f"opening a store of 100,000 ({size:.0f} MB): {max(opened):.3f} s at most   (limit {LIMIT_S:g} s)")
    good = statistics.mean(own) < LIMIT_MS and max(opened) < LIMIT_S  # wall time counts what else the machine does
    print("within the limits" if good else "OVER A LIMIT")


def _ms(values: list[float]) -> str:
    ordered = sorted(values)
    return (
        f"mean {statistics.mean(values):.2f} ms, median {statistics.median(values):.2f}, "
        f"95 % below {ordered[int(0.95 * len(ordered))]:.2f}"
    )


if __name__ == "__main__":
    main()
