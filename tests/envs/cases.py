"""One environment for every registered id, and for every kind of space that they play in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import gymnasium
import numpy as np

from rlnas.envs import EpisodeEnv, TableProblem
from rlnas.graph import Graph
from rlnas.operators import OPERATORS
from tests.envs.fakes import GraphEvaluator
from tests.envs.tables import SPACE, far_start, table
from tests.evaluation.faults import CountingMeter
from tests.evaluation.test_cell_table import write
from tests.graphs import Builder
from tests.spaces.test_makers import SMALL
from tests.transformers import image_classifier


@dataclass(frozen=True)
class Case:
    """What an environment is made of.

    Attributes:
        id: Under which it is registered.
        settings: Gives what it is made from; where `tensors` is true, settings of `rlnas.envs.make_problem`.
        tensors: True if its episodes end in networks with weights.
    """

    id: str
    settings: Callable[[], dict[str, Any]]
    tensors: bool = False

    def make(self, *, render_mode: str | None = None, **settings: Any) -> EpisodeEnv:
        """The environment without the wrappers of `gymnasium.make`."""
        made = gymnasium.make(self.id, render_mode=render_mode, **self.settings() | settings).unwrapped
        assert isinstance(made, EpisodeEnv)
        return made


def residual() -> Graph:
    """Two residual blocks, the second behind a projecting shortcut."""
    b = Builder(1, 8, 8)
    b.conv(6, 3)
    b.add("batch_norm2d")
    begin = b.add("relu")
    b.conv(6, 3)
    b.add("batch_norm2d")
    b.add("add", begin, b.last)
    begin = b.add("relu")
    main = b.conv(8, 3, stride=(2, 2))
    b.add("add", main, b.conv(8, 1, begin, stride=(2, 2)))
    return _head(b)


def mobile() -> Graph:
    """An inverted residual with squeeze and excitation, and a concatenation."""
    b = Builder(1, 8, 8)
    begin = b.conv(4, 3)
    b.conv(12, 1)
    b.add("relu6")
    inner = b.conv(12, 3, groups=12)
    b.add("adaptive_avg_pool2d")
    b.conv(3, 1)
    b.add("relu")
    b.conv(12, 1)
    b.add("mul", inner, b.add("hardsigmoid"))
    b.add("add", b.conv(4, 1), begin)
    left = b.last
    b.add("concat", left, b.conv(4, 1, left), axis=0)
    return _head(b)


def transformer() -> Graph:
    """A vision transformer of ten classes."""
    graph = image_classifier()
    ten = [
        replace(node, attrs=tuple((k, 10 if k == "out_channels" else v) for k, v in node.attrs))
        if node.id == "head"
        else node
        for node in graph.nodes
    ]
    return Graph(tuple(ten), graph.output)


def _head(b: Builder) -> Graph:
    b.add("adaptive_avg_pool2d")
    b.add("flatten")
    b.add("linear", out_channels=10)
    return b.graph()


@cache
def cells() -> Path:
    """A file of the form of NAS-Bench-201's with random numbers."""
    return write(Path(mkdtemp(prefix="rlnas-cells-")) / "nasbench201.npz")


def untrained(**settings: Any) -> dict[str, Any]:
    """Settings under which nothing but the start network is trained, and that hardly."""
    return {"evaluator": GraphEvaluator(), "start_epochs": 0.1, "start_evaluations": 5, **settings}


def every_operator() -> dict[str, Any]:
    """All operators at once, each by its first amount."""
    variants = [f"{name} {operator.amounts[0]:g}" for name, operator in OPERATORS.items()]
    return untrained(start=residual(), variants=variants, max_macs=None, max_steps=4)


def edited_table() -> TableProblem:
    """A table whose episodes begin with something that meets the limits."""
    start = SPACE.choices(table().feasible.sample(np.random.default_rng(3)))
    return table(form="edit", start=start)


def morph(**settings: Any) -> Case:
    """A space of edits."""
    return Case("rlnas/Morph-v0", lambda: untrained(**settings), tensors=True)


def given(id: str, problem: Callable[[], TableProblem]) -> Case:
    """A problem that is looked up."""
    return Case(id, lambda: {"problem": problem()})


def made(space: str, **settings: Any) -> Case:
    """A space of decisions that make networks, small ones."""
    return Case("rlnas/Build-v0", lambda: untrained(space=space, **SMALL[space], **settings))


BUILD, CELLS = "rlnas/Build-v0", "rlnas/NASBench201-v0"

CASES: dict[str, Case] = {
    "stages": morph(),
    "latency": Case("rlnas/MorphLatency-v0", lambda: untrained(meter=CountingMeter()), tensors=True),
    "growing": Case("rlnas/MorphGrow-v0", untrained, tensors=True),
    "compressing": Case("rlnas/MorphCompress-v0", untrained, tensors=True),
    "residual": morph(start=residual()),
    "mobile": morph(start=mobile(), max_macs="2x", max_params="2x"),
    "transformer": morph(start=transformer()),
    "every operator": Case("rlnas/Morph-v0", every_operator, tensors=True),
    "must shrink": morph(max_macs="60%", min_params="10%"),
    "must grow": morph(min_macs="150%", max_memory_bytes="2x"),
    "reject": morph(max_params="1.3x", enforce="reject"),
    "penalty": morph(max_params="1.3x", enforce="penalty"),
    "table": given(BUILD, table),
    "table, edited": given(BUILD, edited_table),
    "table, paid at every step": given(BUILD, lambda: table(step_reward="evaluated", discount=0.9)),
    "table, far start": given(BUILD, lambda: far_start()[0]),
    "chain": made("chain", max_macs="3x"),
    "chain, edited": made("chain", form="edit", max_macs="60%"),
    "nasnet": made("nasnet"),
    "mnasnet, rejected": made("mnasnet", max_params="120%", enforce="reject"),
    "nas_bench_201, edited": made("nas_bench_201", form="edit", min_macs="80%"),
    "cells": Case(CELLS, lambda: {"path": cells()}),
    "cells, edited": Case("rlnas/NASBench201Edit-v0", lambda: {"path": cells()}),
    "cells, capped": Case(CELLS, lambda: {"path": cells(), "device": "fpga", "max_latency": "20%"}),
}
"""Environments by name."""


def registered() -> set[str]:
    """Every id that the package registers."""
    return {id for id in gymnasium.registry if id.startswith("rlnas/")}
