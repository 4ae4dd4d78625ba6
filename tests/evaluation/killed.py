"""A search for a test to kill: evaluates ten candidates in two processes, of which all but three never end."""

import sys
from pathlib import Path

from rlnas.evaluation import Service, Store
from tests.evaluation.faults import FaultyEvaluator, library, start_network, tiny_task, widened

FINISHING = 3


def search(folder, *, resumed):
    """All ten results; the first run waits for ever after three."""
    start = start_network()
    batch = widened(start, 10)
    waiting = {} if resumed else {c.graph.key: "wait" for c in batch[FINISHING:]}
    evaluator = FaultyEvaluator(waiting, folder=str(folder))
    store = Store(Path(folder) / "store.sqlite")
    with Service(evaluator, tiny_task(), starts=library(start), store=store, workers=2) as service:
        return service.evaluate(batch, seed=0, on_result=lambda i, e: print("done", i, flush=True))


if __name__ == "__main__":
    search(sys.argv[1], resumed=False)
