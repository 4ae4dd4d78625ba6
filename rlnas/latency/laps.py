"""A network's forward pass in laps: short stretches that are timed one by one, each between two probes."""

from __future__ import annotations

import ast
import time
from collections.abc import Callable
from typing import Any, Final

from torch import Tensor, nn

from rlnas.graph import Graph, to_source

PROBE_STEPS: Final = 600
TICK: Final = "_tick"

Clock = Callable[[], int]
"""A clock that counts nanoseconds."""


class LapTimer:
    """Takes the time at each tick, and how long a fixed computation takes there.

    The computation, the probe, fits into the processor's innermost caches: it takes longer only where the processor
    itself is slower for a while or has been given to another process, and so tells which laps were undisturbed.

    Args:
        clock: Counts nanoseconds.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._readings: list[int] = []
        self._overhead_ns = 0
        empty = sorted(self.time(lambda: None)[0][0] for _ in range(101))
        self._overhead_ns = round(empty[50] * 1e6)

    def tick(self) -> None:
        """End a lap, run the probe, begin the next lap."""
        self._readings.append(self._clock())
        total = 0
        for step in range(PROBE_STEPS):
            total += step
        self._readings.append(self._clock())

    def time(self, run: Callable[[], object]) -> tuple[list[float], list[float]]:
        """Run something that may tick in between.

        Returns:
            Milliseconds of each lap, and those of the probe before the first lap and after every one.
        """
        self._readings = []
        self.tick()
        run()
        self.tick()
        spans = [b - a for a, b in zip(self._readings, self._readings[1:], strict=False)]
        return [max(lap - self._overhead_ns, 1) / 1e6 for lap in spans[1::2]], [probe / 1e6 for probe in spans[0::2]]


def clock_for(threads: int) -> Clock:
    """The clock for so many threads: the CPU time of this thread if it works alone, else wall-clock time.

    CPU time does not run while another process has the core.
    """
    return time.thread_time_ns if threads == 1 else time.perf_counter_ns


def ticking(graph: Graph, module: nn.Module, tick: Callable[[], None]) -> Callable[[Tensor], Any]:
    """The forward pass of a network's module, with a tick between its statements.

    Args:
        module: Made by `Network.module`.
        tick: Called between two statements.
    """
    tree = ast.parse(to_source(graph))
    forward = next(n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == "forward")
    call = ast.Expr(ast.Call(ast.Name(TICK, ast.Load()), [], []))
    forward.body = [part for statement in forward.body for part in (statement, call)][:-1]
    names: dict[str, Any] = {TICK: tick}
    exec(compile(ast.fix_missing_locations(tree), "<rlnas laps>", "exec"), names)
    run = names["Network"].forward
    return lambda inputs: run(module, inputs)
