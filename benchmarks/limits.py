"""Does the mask keep limits of all kinds, and does it leave something to do?

    python benchmarks/limits.py [--episodes 10000] [--cases 250] [--max-steps 6] [--seed 0] [--jobs 1]

Protocol. Random limits, `cases` of them, half on `conv_stages` for 8x8 images, half on the residual network ResNet-8
(CIFAR form, imported from PyTorch) for 32x32 images. To draw limits, a network is made by a random number of random
edits, up to the episode's length, without limits. Each of parameters, MACs, predicted latency and peak memory is
limited with probability 1/2 (at least one is), by an upper limit, a lower one or both, each up to half the network's
cost away from it. So some network in reach keeps all of them, while the start network often does not. Latency is
predicted by a formula: 2 us a node, 1 ns for 1,000 MACs and for 1,000 bytes of output.

In each case the same number of episodes is played by the policy that takes every legal action with the same
probability, STOP included. What is printed:

- refused: cases that the space refuses as impossible although a network keeps the limits. There the search for a way
  fails that the mask relies on; nothing is played.
- broken: final networks, built anew from their JSON, whose cost lies outside a limit: they would have been evaluated.
- dead ends: steps at which nothing but STOP is legal although the episode has not ended and edits exist that there is
  room for; as a share of all steps before STOP, and of all episodes that meet one. The last step's are part of it.
- without the mask: final networks that break a limit where every edit is legal (`enforce="reject"`).
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from networks import CifarResNet

import rlnas
from rlnas.errors import LimitError
from rlnas.graph import Graph
from rlnas.layout import STOP
from rlnas.spaces import DEFAULT_VARIANTS, Limits, MorphSpace, conv_stages
from rlnas.spaces.limits import cost_of
from rlnas.spaces.sampling import random_episodes

COSTS = ("n_params", "macs", "latency_ms", "peak_memory_bytes")
FARTHEST = 0.5


def networks() -> dict[str, Graph]:
    """Start networks by name."""
    residual = rlnas.from_module(CifarResNet(8), torch.zeros(1, 3, 32, 32))
    return {"conv_stages": conv_stages((1, 8, 8), 10), "ResNet-8": residual.graph}


@lru_cache(maxsize=100_000)
def predict(graph: Graph) -> float:
    """Latency of an architecture in milliseconds, as a roofline would have it."""
    outputs = sum(math.prod(shape) for shape in graph.shapes.values())
    return 2e-3 * len(graph) + 1e-9 * graph.macs + 4e-9 * outputs


def random_limits(graph: Graph, generator: np.random.Generator) -> Limits:
    """Limits that a graph keeps."""
    limited = generator.random(len(COSTS)) < 0.5
    limited[generator.integers(len(COSTS))] = True
    found: dict[str, Any] = {}
    for cost in np.array(COSTS)[limited]:
        value, kind = cost_of(graph, cost, predict), generator.integers(3)
        high, low = value * (1 + FARTHEST * generator.random()), value * (1 - FARTHEST * generator.random())
        if cost != "latency_ms":
            high, low = int(high), int(np.ceil(low))
        found |= {cost: high} if kind != 1 else {}
        found |= {f"min_{cost}": low} if kind != 0 else {}
    return Limits(**found, predict=predict)


@dataclass
class Count:
    """What was seen."""

    cases: int = 0
    refused: int = 0
    start_outside: int = 0
    episodes: int = 0
    broken: int = 0
    steps: int = 0
    dead_steps: int = 0
    dead_episodes: int = 0
    unmasked: int = 0
    unmasked_broken: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(**{name: value + vars(other)[name] for name, value in vars(self).items()})


def play(space: MorphSpace, generator: np.random.Generator) -> tuple[Graph, int, int]:
    """One episode of the uniform policy: (final graph, steps before STOP, dead ends)."""
    graph, steps, dead = space.start, 0, 0
    for left in range(space.max_steps, 0, -1):
        legal = space.legal(graph, steps_left=left)
        steps += 1
        if legal.actions == (STOP,):
            dead += bool(space.edits(graph))
            break
        action = legal.actions[generator.integers(len(legal.actions))]
        if action == STOP:
            break
        graph = space.edited(graph, legal.sites[action])
    return graph, steps, dead


def breaks(graph: Graph, limits: Limits) -> bool:
    """Whether a network breaks a limit, counted anew."""
    graph = Graph.from_json(graph.to_json())
    values = {cost: cost_of(graph, cost, predict) for cost in COSTS}
    over = [values[c] > getattr(limits, c) for c in COSTS if getattr(limits, c) is not None]
    under = [values[c] < getattr(limits, f"min_{c}") for c in COSTS if getattr(limits, f"min_{c}") is not None]
    return any(over) or any(under)


def one_case(free: MorphSpace, episodes: int, generator: np.random.Generator) -> Count:
    """Random limits on a space without any, and episodes under them."""
    seed = int(generator.integers(2**31))
    target = next(graphs[-1] for graphs in random_episodes(free, seed=seed))
    limits = random_limits(target, generator)
    assert not breaks(target, limits)
    make: Callable[..., MorphSpace] = partial(
        MorphSpace, free.start, free.variants, max_steps=free.max_steps, max_nodes=free.max_nodes, limits=limits
    )
    try:
        space = make()
    except LimitError:
        return Count(cases=1, refused=1)
    count = Count(cases=1, start_outside=int(breaks(free.start, limits)), episodes=episodes)
    for _ in range(episodes):
        graph, steps, dead = play(space, generator)
        count.broken += breaks(graph, limits)
        count.steps += steps
        count.dead_steps += dead
        count.dead_episodes += dead > 0
    unmasked = make(enforce="reject")
    for _ in range(max(1, episodes // 10)):
        count.unmasked += 1
        count.unmasked_broken += breaks(play(unmasked, generator)[0], limits)
    return count


def numbered_case(start: Graph, max_steps: int, episodes: int, seed: int, case: int) -> Count:
    """One case by its number."""
    torch.set_num_threads(1)
    free = MorphSpace(start, DEFAULT_VARIANTS, max_steps=max_steps, max_nodes=len(start) + 5 * max_steps)
    return one_case(free, episodes, np.random.default_rng([seed, case]))


def measure(
    start: Graph,
    *,
    cases: int,
    episodes: int,
    max_steps: int,
    seed: int,
    jobs: int = 1,
    progress: Callable[[str], None] = print,
) -> Count:
    """All cases of one start network, the same whatever the number of processes."""
    play_case = partial(numbered_case, start, max_steps, -(-episodes // cases), seed)
    total, begun = Count(), time.time()
    with ExitStack() as stack:
        counts: Iterable[Count] = map(play_case, range(cases))
        if jobs > 1:
            pool = stack.enter_context(multiprocessing.get_context("spawn").Pool(jobs))
            counts = pool.imap_unordered(play_case, range(cases))
        for done, count in enumerate(counts, start=1):
            total += count
            if done % 25 == 0:
                progress(f"  {done} cases, {time.time() - begun:.0f} s: {total}")
    return total


def share(part: int, whole: int) -> str:
    """A share in words."""
    return f"{part} of {whole:,} ({100 * part / max(whole, 1):.2f} %)"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--episodes", type=int, default=10_000)
    parser.add_argument("--cases", type=int, default=250)
    parser.add_argument("--max-steps", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="processes that share the cases")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    starts = networks()
    for name, start in starts.items():
        print(name, flush=True)
        count = measure(
            start,
            cases=given.cases // len(starts),
            episodes=given.episodes // len(starts),
            max_steps=given.max_steps,
            seed=given.seed,
            jobs=given.jobs,
            progress=partial(print, flush=True),
        )
        print(f"  refused              {share(count.refused, count.cases)}")
        print(f"  start outside        {share(count.start_outside, count.cases - count.refused)}")
        print(f"  broken               {share(count.broken, count.episodes)}")
        print(f"  dead ends, steps     {share(count.dead_steps, count.steps)}")
        print(f"  dead ends, episodes  {share(count.dead_episodes, count.episodes)}")
        print(f"  without the mask     {share(count.unmasked_broken, count.unmasked)}", flush=True)


if __name__ == "__main__":
    main()
