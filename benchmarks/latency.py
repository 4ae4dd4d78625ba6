"""How far latency numbers can be trusted while another process keeps the cores busy.

    python benchmarks/latency.py [--repeats 25] [--busy train] [--to latency.json]

ResNet-20 and the same network made about 15 % slower (wider hidden channels in four of its blocks) are measured
``--repeats`` times in turns, in three ways side by side: with `rlnas.latency.TorchMeter`; by the wall clock, mean of 20
runs after 10 warm-ups, as ProxylessNAS does it; by the wall clock, mean of 300 runs. Printed are the mean, the
coefficient of variation (standard deviation over mean), how often the slower network was measured slower than the other
one in the same turn, and in any pair of turns.

The other process either trains a network with one thread a core (``train``), which competes for cores, caches and
memory, or only computes (``spin``).

References:
    Cai et al., ProxylessNAS, ICLR 2019, arXiv:1812.00332.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from networks import CifarResNet
from torch import nn

from rlnas.interchange import from_module
from rlnas.latency import TorchMeter, torch_threads
from rlnas.network import Network

TRAIN = """
import torch
torch.set_num_threads({cores})
layers = [torch.nn.Conv2d(64 if i else 3, 64, 3, padding=1) for i in range(6)]
network, images = torch.nn.Sequential(*layers), torch.randn(32, 3, 32, 32)
while True:
    network.zero_grad()
    network(images).sum().backward()
"""
SPIN = """
import os
for _ in range({cores} - 1):
    if os.fork() == 0:
        break
while True:
    pass
"""
OTHERS = {"train": TRAIN, "spin": SPIN}
WIDER = 2.0
WIDENED = (0, 1, 2, 3)


def resnet20(*, widened: tuple[int, ...] = ()) -> Network:
    """ResNet-20, some of its blocks with `WIDER` times as many hidden channels."""
    torch.manual_seed(0)
    module = CifarResNet(20)
    for number in widened:
        block = module.blocks[number]
        before, after = block.conv1.in_channels, block.conv1.out_channels
        hidden = round(WIDER * after)
        block.conv1 = nn.Conv2d(before, hidden, 3, block.conv1.stride, 1, bias=False)
        block.bn1 = nn.BatchNorm2d(hidden)
        block.conv2 = nn.Conv2d(hidden, after, 3, 1, 1, bias=False)
    return from_module(module, torch.zeros(1, 3, 32, 32))


@contextmanager
def busy(kind: str) -> Iterator[None]:
    """Another process that keeps every core busy beside the block."""
    if kind == "none":
        yield
        return
    code = OTHERS[kind].format(cores=os.cpu_count() or 1)
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    time.sleep(5.0)
    try:
        yield
    finally:
        os.killpg(process.pid, 9)
        process.wait()


def mean_wall_ms(network: Network, *, runs: int, warmup: int = 10) -> float:
    """Mean wall-clock time of single runs."""
    module, inputs = network.module().eval(), torch.zeros(1, *network.graph.input_shape)
    with torch.inference_mode(), torch_threads(1):
        for _ in range(warmup):
            module(inputs)
        begun = time.perf_counter()
        for _ in range(runs):
            module(inputs)
        return (time.perf_counter() - begun) * 1e3 / runs


def variation(values: list[float]) -> float:
    """Coefficient of variation in per cent."""
    return 100 * statistics.stdev(values) / statistics.mean(values)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=25)
    parser.add_argument("--busy", choices=("none", *OTHERS), default="train", help="what the other process does")
    parser.add_argument("--max-time-s", type=float, default=6.0, help="time of the meter for one measurement")
    parser.add_argument("--to", type=Path, help="JSON file for the numbers")
    options = parser.parse_args()
    networks = {"plain": resnet20(), "slower": resnet20(widened=WIDENED)}
    meter = TorchMeter(precision=0.003, max_time_s=options.max_time_s)
    ways: dict[str, Callable[[Network], float]] = {
        "rlnas meter": lambda network: meter.measure([network])[0].ms,
        "wall clock, mean of 20 after 10 warm-ups": lambda network: mean_wall_ms(network, runs=20),
        "wall clock, mean of 300": lambda network: mean_wall_ms(network, runs=300),
    }
    found: dict[str, dict[str, list[float]]] = {way: {name: [] for name in networks} for way in ways}
    took: dict[str, list[float]] = {way: [] for way in ways}
    with busy(options.busy):
        load = os.getloadavg()[0]
        meter.measure(list(networks.values()))  # the baseline
        for turn in range(options.repeats):
            for way, measure in ways.items():
                for name, network in networks.items():
                    begun = time.perf_counter()
                    found[way][name].append(measure(network))
                    took[way].append(time.perf_counter() - begun)
            print(f"{turn + 1}/{options.repeats}", *(f"{found[w]['plain'][-1]:.3f} ms" for w in ways), flush=True)
        load = (load + os.getloadavg()[0]) / 2
    rows = {}
    print(f"{options.repeats} repeats, other process: {options.busy}, load of the machine {load:.1f}")
    print(f"{'':<42} {'ms':>8} {'CV %':>6} {'slower by %':>11} {'ranked %':>8} {'any pair %':>10} {'took s':>7}")
    for way, values in found.items():
        plain, slower = values["plain"], values["slower"]
        pairs = [b > a for a in plain for b in slower]
        rows[way] = {
            "ms": statistics.mean(plain),
            "variation_percent": variation(plain),
            "slower_variation_percent": variation(slower),
            "slower_by_percent": 100 * (statistics.mean(slower) / statistics.mean(plain) - 1),
            "ranked_percent": 100 * sum(b > a for a, b in zip(plain, slower, strict=True)) / len(plain),
            "any_pair_percent": 100 * sum(pairs) / len(pairs),
            "took_s": statistics.median(took[way]),
        }
        row = rows[way]
        print(
            f"{way:<42} {row['ms']:>8.3f} {row['variation_percent']:>6.2f} {row['slower_by_percent']:>11.1f} "
            f"{row['ranked_percent']:>8.0f} {row['any_pair_percent']:>10.1f} {row['took_s']:>7.1f}"
        )
    if options.to:
        numbers = {"busy": options.busy, "load": load, "meter": dict(meter.description), "ways": rows, "values": found}
        options.to.write_text(json.dumps(numbers, indent=1) + "\n")


if __name__ == "__main__":
    main()
