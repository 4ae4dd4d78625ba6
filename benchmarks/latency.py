"""How far latency numbers can be trusted: their spread over repeats on an idle and on a busy machine.

    python benchmarks/latency.py [--repeats 25] [--busy 0 1 2]

For each number of busy processes, every network is measured several times, each time built anew, in turns. Printed are
the mean, the coefficient of variation (standard deviation over mean), the time one measurement takes, and the
spread of plain wall-clock medians of the same number of runs without reference network, for comparison.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from rlnas.graph import Graph, Node, complete
from rlnas.latency import TorchMeter, torch_threads
from rlnas.network import Network


def conv_net(width: int, *, size: int = 8, blocks: int = 1) -> Network:
    """Three stages of convolutions with pooling between, and a linear classifier."""
    nodes = [Node.make("input", "input", shape=(1, size, size), dtype="float32")]
    last = "input"

    def add(id: str, op: str, **attrs: object) -> None:
        nonlocal last
        nodes.append(complete(Node.make(id, op, last, **attrs)))
        last = id

    pad = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1, "bias": False}
    for stage in range(3):
        for block in range(blocks):
            name = f"{stage}_{block}"
            add(f"conv{name}", "conv2d", out_channels=width, kernel_size=(3, 3), **pad)
            add(f"norm{name}", "batch_norm2d", eps=1e-5, momentum=0.1)
            add(f"relu{name}", "relu")
        if stage < 2:
            add(f"pool{stage}", "max_pool2d", kernel_size=(2, 2), stride=(2, 2), padding=(0, 0), ceil_mode=False)
    add("gap", "adaptive_avg_pool2d", output_size=(1, 1))
    add("flat", "flatten")
    add("head", "linear", out_channels=10, bias=True)
    return Network.initialize(Graph(tuple(nodes), last), generator=torch.Generator().manual_seed(0))


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Processes that only compute, beside the block."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    time.sleep(0.3 if count else 0.0)
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def plain_median_ms(network: Network, *, repeats: int = 30) -> float:
    """Median wall-clock time of single runs after ten warm-ups: what a simple script measures."""
    module, inputs = network.module().eval(), torch.zeros(1, *network.graph.input_shape)
    times = []
    with torch.inference_mode(), torch_threads(1):
        for _ in range(10 + repeats):
            start = time.perf_counter()
            module(inputs)
            times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times[10:])


def spread(values: list[float]) -> float:
    """Coefficient of variation in per cent."""
    return 100 * statistics.stdev(values) / statistics.mean(values)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=25)
    parser.add_argument("--busy", type=int, nargs="*", default=[0, 1, 2], help="numbers of busy processes")
    options = parser.parse_args()
    networks = {
        "8x8, 3 layers of 8": conv_net(8),
        "8x8, 3 layers of 10": conv_net(10),
        "8x8, 6 layers of 16": conv_net(16, blocks=2),
        "32x32, 9 layers of 32": conv_net(32, size=32, blocks=3),
    }
    meter = TorchMeter()
    print(f"{'busy':>4}  {'network':<24} {'ms':>8} {'CV %':>6} {'plain CV %':>10} {'took ms':>8}")
    for count in options.busy:
        found: dict[str, list[float]] = {name: [] for name in networks}
        plain: dict[str, list[float]] = {name: [] for name in networks}
        took: dict[str, list[float]] = {name: [] for name in networks}
        with busy(count):
            for _ in range(options.repeats):
                for name, network in networks.items():
                    start = time.perf_counter()
                    found[name].append(meter.measure([network])[0].ms)
                    took[name].append((time.perf_counter() - start) * 1e3)
                    plain[name].append(plain_median_ms(network))
        for name in networks:
            ms, cost = statistics.mean(found[name]), statistics.median(took[name])
            ours, simple = spread(found[name]), spread(plain[name])
            print(f"{count:>4}  {name:<24} {ms:>8.4f} {ours:>6.2f} {simple:>10.2f} {cost:>8.0f}")


if __name__ == "__main__":
    main()
