"""What it costs to take in a network and to edit it, beside Torch-Pruning on the same machine in the same run.

    python benchmarks/editing.py [--repeats 7]

For ResNet-20 and ResNet-56 (CIFAR form) it prints the time from a module to the first widened or pruned network, that
of a further edit, and what Torch-Pruning 1.6.1 takes for its dependency graph and one pruned layer, and for a further
one. For ResNet-50 it prints how long all operators take to list all their sites. Times are medians in milliseconds of
processor time on one thread; every repeat starts from a new module or graph, so that nothing is remembered.
Needs `pip install torch-pruning`.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from networks import CifarResNet, ResNet50

import rlnas
from rlnas.graph import Graph
from rlnas.network import Network
from rlnas.operators import OPERATORS


def edit(network: Network, name: str, position: int) -> Network:
    """One edit at the site of an operator that stands at a position among its sites."""
    operator = OPERATORS[name]
    sites = operator.sites(network.graph)
    return operator.apply(network, sites[position % len(sites)], generator=torch.Generator().manual_seed(0))


def ours(depth: int, name: str) -> tuple[float, float]:
    """Milliseconds to the first edited network, and for a further edit."""
    module, example = CifarResNet(depth), torch.randn(1, 3, 32, 32)
    begin = time.process_time()
    first = edit(rlnas.from_module(module, example), name, 5)
    middle = time.process_time()
    edit(first, name, 9)
    return (middle - begin) * 1e3, (time.process_time() - middle) * 1e3


def theirs(depth: int) -> tuple[float, float]:
    """Milliseconds of Torch-Pruning for its graph and one pruned layer, and for a further one."""
    import torch_pruning

    module, example = CifarResNet(depth).eval(), torch.randn(1, 3, 32, 32)
    begin = time.process_time()
    graph = torch_pruning.DependencyGraph().build_dependency(module, example_inputs=example)
    graph.get_pruning_group(module.blocks[1].conv1, torch_pruning.prune_conv_out_channels, idxs=[0, 1, 2, 3]).prune()
    middle = time.process_time()
    graph.get_pruning_group(module.blocks[2].conv1, torch_pruning.prune_conv_out_channels, idxs=[0, 1, 2, 3]).prune()
    return (middle - begin) * 1e3, (time.process_time() - middle) * 1e3


def median(measure: Callable[[], tuple[float, float]], repeats: int) -> tuple[float, float]:
    """Medians of both times after one run that is not counted."""
    measure()
    runs = [measure() for _ in range(repeats)]
    return statistics.median(run[0] for run in runs), statistics.median(run[1] for run in runs)


def sites(graph: Graph, classes: int) -> tuple[float, float]:
    """Milliseconds to list all sites of a graph that has never been met, and their number."""
    nodes = [
        replace(n, attrs=(*n.attrs[:-1], ("out_channels", classes))) if n.op == "linear" else n for n in graph.nodes
    ]
    fresh = Graph(tuple(nodes), graph.output)
    begin = time.process_time()
    found = sum(len(operator.sites(fresh)) for operator in OPERATORS.values())
    return (time.process_time() - begin) * 1e3, found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    print(f"{'network':12}{'tool':36}{'first edit, ms':>16}{'a further one, ms':>20}")
    for depth in (20, 56):
        for name in ("widen", "prune_channels"):
            first, further = median(lambda depth=depth, name=name: ours(depth, name), repeats)  # type: ignore[misc]
            print(f"ResNet-{depth:<5}{'rlnas import + ' + name:36}{first:16.1f}{further:20.1f}")
        first, further = median(lambda depth=depth: theirs(depth), repeats)  # type: ignore[misc]
        print(f"ResNet-{depth:<5}{'torch-pruning graph + one layer':36}{first:16.1f}{further:20.1f}")
    graph = resnet50()
    classes = itertools.count(10)
    took, found = median(lambda: sites(graph, next(classes)), repeats)
    print(f"ResNet-50: {found:.0f} sites of {len(OPERATORS)} operators listed in {took:.1f} ms")


def resnet50() -> Graph:
    """The architecture of ResNet-50 for 224 x 224 images."""
    return rlnas.from_module(ResNet50(), torch.randn(1, 3, 224, 224)).graph


if __name__ == "__main__":
    main()
