"""Evaluators, meters and candidates for tests; importable in worker processes."""

import json
import os
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch

from rlnas.evaluation import Candidate, Evaluation, Metrics, StartLibrary
from rlnas.latency import Latency
from rlnas.network import Network
from rlnas.operators import OPERATORS
from rlnas.spaces import conv_stages
from rlnas.tasks import Split, make_task

HOARD = []


def tiny_task(seed=0):
    """Two classes of noisy 6x6 images, bright above or below; any network learns it."""
    generator = torch.Generator().manual_seed(seed)

    def split(n):
        targets = torch.arange(n) % 2
        inputs = torch.rand(n, 1, 6, 6, generator=generator)
        inputs[targets == 0, :, :3] += 0.5
        inputs[targets == 1, :, 3:] += 0.5
        return Split(inputs, targets)

    return make_task(
        "tiny", train=split(96), validation=split(64), test=split(64), n_classes=2, input_description="6x6 noise"
    )


def start_network(width=4):
    graph = conv_stages((1, 6, 6), 2, stages=2, width=width)
    return Network.initialize(graph, generator=torch.Generator().manual_seed(0))


def candidates(start, *operators):
    """One candidate for each operator name: its first site in the start network. ``""`` is the start network itself."""
    made = []
    for name in operators:
        edits = (OPERATORS[name].sites(start.graph)[0],) if name else ()
        graph = OPERATORS[name].edit(start.graph, edits[0]).graph if name else start.graph
        made.append(Candidate(graph, start.content_hash, edits))
    return made


def widened(start, n):
    """``n`` different candidates, each with another width of the first layer; cheap to make."""
    from rlnas.operators import Site

    operator, made = OPERATORS["widen"], []
    for i in range(n):
        site = Site("widen", "conv1", None, 1 + (i + 1) / 4)
        made.append(Candidate(operator.edit(start.graph, site).graph, start.content_hash, (site,)))
    assert len({candidate.graph.key for candidate in made}) == n
    return made


def library(*networks):
    starts = StartLibrary()
    for network in networks:
        starts.add(network)
    return starts


@dataclass(frozen=True)
class FaultyEvaluator:
    """Gives an accuracy drawn from the seed, except for graphs that are to go wrong.

    Behaviours: "ok", "crash", "crash once", "hang", "raise", "memory", "allocate" (4 GB), "hoard" (keeps 100 MB for
    good), "nan", "wait" (until the file ``go`` exists).
    """

    behaviours: dict = field(default_factory=dict)  # graph key -> behaviour
    folder: str = ""
    deterministic: bool = True

    @cached_property
    def recipe(self):
        return json.dumps({"evaluator": "faulty"})

    def evaluate(self, network, *, seed):
        if self.folder:
            with open(Path(self.folder) / "calls", "a") as calls:
                calls.write(f"{network.graph.key}\n")
        behaviour = self.behaviours.get(network.graph.key, "ok")
        if behaviour == "crash":
            os._exit(7)
        if behaviour == "crash once":
            flag = Path(self.folder) / f"crashed-{network.graph.key}"
            if not flag.exists():
                flag.touch()
                os._exit(7)
        if behaviour == "hang":
            time.sleep(600)
        if behaviour == "wait":
            while not (Path(self.folder) / "go").exists():
                time.sleep(0.005)
        if behaviour == "raise":
            raise ValueError("something\nwent wrong")
        if behaviour == "memory":
            raise MemoryError
        if behaviour == "allocate":
            torch.zeros(4_000_000_000, dtype=torch.uint8)
        if behaviour == "hoard":
            HOARD.append(torch.zeros(100_000_000, dtype=torch.uint8))
        if behaviour == "nan":
            return Evaluation.failed("the training loss is not finite")
        accuracy = (seed % 1000) / 1000
        return Evaluation(Metrics.of_graph(network.graph, accuracy=accuracy, cost_s=0.0), trained=network)

    def calls(self):
        return (Path(self.folder) / "calls").read_text().split() if (Path(self.folder) / "calls").exists() else []


class CountingMeter:
    """Latency = millions of MACs; notes what it was asked."""

    deterministic = True

    def __init__(self, scale=1e-6):
        self.scale = scale
        self.measured = []
        self.restored = None

    @property
    def description(self):
        return {"meter": "counting", "scale": self.scale}

    def measure(self, networks):
        self.measured += [network.graph.key for network in networks]
        values = [network.graph.macs * self.scale for network in networks]
        return [Latency(value, value * 0.9, value * 1.1, 30) for value in values]

    def graph_ms(self, graph):
        return graph.macs * self.scale

    def state(self):
        return {"measured": float(len(self.measured) > 0)}

    def restore(self, state):
        self.restored = dict(state)
