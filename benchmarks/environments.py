"""How fast the environments are: steps a second, milliseconds for an observation with its mask, and a learner's share.

What is timed is all that a training loop calls: ``step``, ``reset`` after each episode, and the choice of a random
legal action from the observation's mask, through the wrappers that `gymnasium.make` puts around. Times are processor
times of the one thread that plays, so that other programs on the machine count for little.

- Tables (``rlnas/Build-v0``, ``rlnas/NASBench201-v0``): scores are looked up.
- ``rlnas/Morph-v0`` on a network of 20 layers (with norms and activations 63 nodes): graphs only, where no episode is
  evaluated; and with weights, where the network that each episode ends with gets its inherited weights, and an accuracy
  that costs nothing: by edits that are exact, which is what is asked for; and, for comparison, by those that prune too,
  which run 256 training inputs through the network before and after each and solve for the weights that stay.
- Observation and mask of 50 nodes, the median over states that were not met before, once other states were.
- MaskablePPO of sb3-contrib on ``rlnas/NASBench201-v0``: the share of its time that it spends in the environment.

    python benchmarks/environments.py --steps 20000
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch

import rlnas  # noqa: F401  (registers the ids)
from rlnas.envs import MorphProblem, TableProblem, make_problem
from rlnas.envs.imagined import ImaginedProblem
from rlnas.envs.morph_episode import MorphEpisode
from rlnas.errors import RlnasError
from rlnas.evaluation import Evaluation, Metrics, load_nas_bench_201
from rlnas.graph import Graph, Node, complete
from rlnas.network import Network
from rlnas.operators import get_operator
from rlnas.spaces import DecisionSpace, default_variants

TABLES, GRAPHS, WEIGHTS = 5_000, 500, 100
"""Steps a second that are asked for."""
MOST_MS, NODES = 1.0, 50
"""Milliseconds that an observation with its mask may take, and of how many nodes."""
SHARE = 0.5
"""Share of a learner's time that its environment may take."""
LAYERS = 20


def synthetic(seed: int, *, share: float, form: str) -> TableProblem:
    """Six decisions of five choices, scores from pairs of choices, and a limit that this share meets."""
    generator = np.random.default_rng(seed)
    space = DecisionSpace.of({f"decision{i}": range(5) for i in range(6)})
    chosen = np.indices(space.shape)
    alone, pairs = generator.standard_normal((6, 5)), generator.standard_normal((6, 6, 5, 5)) / 2
    scores = sum(alone[i, chosen[i]] + sum(pairs[i, j, chosen[i], chosen[j]] for j in range(i)) for i in range(6))
    return TableProblem(space, scores, form=form, allowed=generator.random(space.shape) < share)


def layered(layers: int) -> Graph:
    """A network of so many layers for 8 x 8 images: convolutions with norm and activation in three stages, a head."""
    nodes = [Node.make("image", "input", shape=(1, 8, 8), dtype="float32")]

    def add(op: str, **attrs: Any) -> None:
        nodes.append(complete(Node.make(f"{op.rstrip('2d')}{len(nodes)}", op, nodes[-1].id, **attrs)))

    for number in range(layers - 1):
        stage = 3 * number // (layers - 1)
        if number and stage > 3 * (number - 1) // (layers - 1):
            add("max_pool2d", kernel_size=(2, 2), stride=(2, 2))
        add("conv2d", out_channels=8 << stage, kernel_size=(3, 3), padding=(1, 1), bias=False)
        add("batch_norm2d")
        add("relu")
    add("adaptive_avg_pool2d", output_size=(1, 1))
    add("flatten")
    add("linear", out_channels=10)
    return Graph(tuple(nodes), nodes[-1].id)


class Free:
    """An evaluator that costs nothing: what is timed is how candidates get their weights."""

    deterministic = True
    score = "validation"
    recipe = json.dumps({"evaluator": "free"})

    def work(self, graph: Graph) -> float:
        """Nothing."""
        return 0.0

    def evaluate(self, network: Network, *, seed: int) -> Evaluation:
        """The same accuracy for all."""
        return Evaluation(Metrics.of_graph(network.graph, accuracy=0.5, cost_s=0.0), trained=network)


def edits(layers: int, *, exact: bool = False) -> MorphProblem:
    """Edits of a network that nobody trains.

    Args:
        exact: Only those that keep the function.
    """
    start = Network.initialize(layered(layers), generator=torch.Generator().manual_seed(0))
    variants = [
        variant for variant in default_variants(start.graph) if get_operator(variant.operator).exact or not exact
    ]
    settings = {"start_epochs": 0, "start_evaluations": 1, "variants": variants}
    return make_problem("digits", start=start, evaluator=Free(), **settings)  # type: ignore[arg-type]


def steps_per_second(env: gymnasium.Env, steps: int, *, seed: int = 0) -> float:
    """Play random legal actions."""
    generator = np.random.default_rng(seed)
    observation, _ = env.reset(seed=seed)
    begun = time.thread_time()
    for _ in range(steps):
        legal = observation["action_mask"].nonzero()[0]
        observation, _, terminated, _, _ = env.step(legal[int(generator.random() * len(legal))])
        if terminated:
            observation, _ = env.reset()
    return steps / (time.thread_time() - begun)


def observation_ms(problem: MorphProblem, states: int, *, nodes: int, seed: int = 0) -> list[float]:
    """Milliseconds for the observation and the mask of states not met before; of about so many nodes.

    The first half of the states only warms up. The graph of a state is at hand as an edit leaves it: with shapes, and
    without its canonical order or anything else that an observation needs.
    """
    generator, met, found = np.random.default_rng(seed), set[str](), list[float]()
    while len(found) < states:
        episode = problem.begin()
        assert isinstance(episode, MorphEpisode)
        while not episode.ended:
            begun = time.thread_time()
            mask = episode.observe()["action_mask"]
            took = 1e3 * (time.thread_time() - begun)
            if episode.graph.key not in met and abs(len(episode.graph) - nodes) <= 0.1 * nodes:
                found.append(took)
            met.add(episode.graph.key)
            legal = mask.nonzero()[0]
            episode.step(int(legal[int(generator.random() * len(legal))]))
    return found[states // 2 :]


class Timed(gymnasium.Wrapper):
    """Adds up the time that an environment takes."""

    spent = 0.0

    def _timed(self, call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        begun = time.thread_time()
        try:
            return call(*arguments, **named)
        finally:
            self.spent += time.thread_time() - begun

    def step(self, action: Any) -> Any:
        """As the environment."""
        return self._timed(self.env.step, action)

    def reset(self, **arguments: Any) -> Any:
        """As the environment."""
        return self._timed(self.env.reset, **arguments)

    def action_masks(self) -> Any:
        """As the environment."""
        return self._timed(self.env.unwrapped.action_masks)  # type: ignore[attr-defined]


def learner_share(env: gymnasium.Env, steps: int) -> float:
    """Share of MaskablePPO's time, with its defaults, that the environment takes."""
    from sb3_contrib import MaskablePPO

    timed = Timed(env)
    learner = MaskablePPO("MultiInputPolicy", timed, seed=0, device="cpu")
    timed.spent = 0.0
    begun = time.thread_time()
    learner.learn(steps)
    return timed.spent / (time.thread_time() - begun)


def cells(path: str | None, **settings: Any) -> gymnasium.Env:
    """NAS-Bench-201; where its file is not there, a table of the same size."""
    try:
        load_nas_bench_201(path)
    except RlnasError as error:
        print(f"without NAS-Bench-201 ({error}): a table of its size instead")
        form, share = settings.get("form", "build"), 0.2 if len(settings) > 1 else 1.0
        return gymnasium.make("rlnas/Build-v0", problem=synthetic(0, share=share, form=form))
    return gymnasium.make("rlnas/NASBench201-v0", path=path, **settings)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20_000, help="steps in one repetition with a table")
    parser.add_argument("--data", help="NAS-Bench-201's file or its folder; by default what RLNAS_DATA names")
    parser.add_argument("--repeats", type=int, default=5, help="repetitions, of which the median counts")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    missed = []

    def report(name: str, found: list[float], unit: str, *, bound: float, least: bool) -> None:
        median = statistics.median(found)
        ok = median >= bound if least else median < bound
        sign = ">=" if least else "<"
        print(f"{name:<46} {median:9,.4g} {unit} ({min(found):,.4g} to {max(found):,.4g}); {sign} {bound:g}: {ok}")
        if not ok:
            missed.append(name)

    def play(name: str, make: Callable[[], gymnasium.Env], steps: int, bound: float) -> None:
        env = make()
        found = [steps_per_second(env, max(1, steps), seed=i) for i in range(arguments.repeats)]
        report(name, found, "steps/s", bound=bound, least=True)

    for form in ("build", "edit"):
        for share in (1.0, 0.2):
            problem = synthetic(0, share=share, form=form)
            play(
                f"rlnas/Build-v0 {form}, {share:.0%} allowed",
                lambda problem=problem: gymnasium.make("rlnas/Build-v0", problem=problem),  # type: ignore[misc]
                arguments.steps,
                TABLES,
            )
        for settings in ({}, {"device": "raspi4", "max_latency": "20%"}):
            name = f"rlnas/NASBench201-v0 {form}, {'20%' if settings else 'all'} allowed"
            play(name, lambda f=form, s=settings: cells(arguments.data, form=f, **s), arguments.steps, TABLES)  # type: ignore[misc]
    graphs = ImaginedProblem(edits(LAYERS))
    few = arguments.steps // 20
    steps_per_second(gymnasium.make("rlnas/Morph-v0", problem=graphs), 2 * few, seed=arguments.repeats)  # warms up
    play(
        f"rlnas/Morph-v0, {LAYERS} layers, graphs only",
        lambda: gymnasium.make("rlnas/Morph-v0", problem=graphs),
        few,
        GRAPHS,
    )
    play(
        f"rlnas/Morph-v0, {LAYERS} layers, with weights",
        lambda: gymnasium.make("rlnas/Morph-v0", problem=edits(LAYERS, exact=True)),
        few,
        WEIGHTS,
    )
    pruning = gymnasium.make("rlnas/Morph-v0", problem=edits(LAYERS))
    print(f"  with edits that prune: {steps_per_second(pruning, max(1, few // 10)):.3g} steps/s")
    found = observation_ms(edits(16), max(20, 4 * few), nodes=NODES)
    report(f"observation and mask, {NODES} nodes", found, "ms", bound=MOST_MS, least=False)
    if importlib.util.find_spec("sb3_contrib") is None:
        print("without sb3-contrib: MaskablePPO is left out")
    else:
        shares = [learner_share(cells(arguments.data), max(2048, arguments.steps // 4))]
        report(
            "MaskablePPO on rlnas/NASBench201-v0", shares, "of its time in the environment", bound=SHARE, least=False
        )
    print("all as asked for" if not missed else f"missed: {', '.join(missed)}")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
