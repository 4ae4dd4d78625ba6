"""``rlnas`` with an evaluator that goes wrong in every way."""

import hashlib
import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from rlnas.cli.main import main
from rlnas.evaluation import Evaluation, Metrics
from rlnas.tasks import Task

FOLDER = "DRILL_FOLDER"
"""Environment variable: where evaluations note that they have died already; without it none dies."""

KINDS = "DRILL_KINDS"
"""Environment variable: the faults that may happen, with blanks between them; all by default."""

FAULTS = {"hang": 0.02, "raise": 0.04, "nan": 0.04, "memory": 0.02}
"""Share of the networks that go wrong in each way, always."""

DYING = 0.06
"""Share of the networks whose process is killed the first time, if it is let."""


def chance(*parts):
    """A number in [0, 1) that depends on nothing but the parts."""
    return int.from_bytes(hashlib.blake2b(json.dumps(parts).encode(), digest_size=6).digest(), "big") / 2**48


def fault(key, kinds=tuple(FAULTS)):
    """How the network of that graph key goes wrong; None if it does not."""
    drawn = chance("fault", key)
    for name, share in FAULTS.items():
        if drawn < share:
            return name if name in kinds else None
        drawn -= share
    return None


@dataclass(frozen=True)
class DrillEvaluator:
    """Gives an accuracy drawn from graph and seed, and goes wrong for some graphs; it trains nothing."""

    task: Task
    folder: str | None = None
    kinds: tuple[str, ...] = tuple(FAULTS)
    deterministic: bool = True
    recipe: str = '{"evaluator": "drill"}'

    def work(self, graph):
        return 0.0

    def evaluate(self, network, *, seed):
        key = network.graph.key
        if network.history:  # the start network is always fine
            self._go_wrong(key)
        accuracy = 0.5 + 0.5 * chance("accuracy", key, seed)
        return Evaluation(Metrics.of_graph(network.graph, accuracy=accuracy, cost_s=0.0), trained=network)

    def _go_wrong(self, key):
        if self.folder is not None and chance("die", key) < DYING:
            flag = Path(self.folder) / key
            if not flag.exists():
                flag.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        match fault(key, self.kinds):
            case "hang":
                time.sleep(600)
            case "raise":
                raise ValueError("this network goes wrong")
            case "memory":
                torch.zeros(10**13, dtype=torch.uint8)
            case "nan":
                raise FloatingPointError("the training loss is not finite")


def drilled_main():
    """The command line with this evaluator, and a meter that takes no time."""
    import rlnas.cli.search
    import rlnas.envs.make
    from tests.evaluation.faults import CountingMeter

    kinds = tuple(os.environ.get(KINDS, " ".join(FAULTS)).split())
    for module, name in ((rlnas.envs.make, "make_evaluator"), (rlnas.cli.search, "meter_of")):
        assert hasattr(module, name), f"{module.__name__}.{name} is no more: replace what is in its place"
    rlnas.envs.make.make_evaluator = lambda name, task, **_: DrillEvaluator(task, os.environ.get(FOLDER), kinds)
    rlnas.cli.search.meter_of = lambda *_, **__: CountingMeter()
    main()


def drilled_line(words):
    """What ``python -m tests.evaluation.drilled WORDS`` would do."""
    sys.argv = ["rlnas", *words]
    sys.modules["__main__"] = sys.modules[__name__]  # what workers, being spawned, import first
    drilled_main()
