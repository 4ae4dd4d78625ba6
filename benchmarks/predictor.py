"""How well a predictor knows the latency of networks that it was not fitted on.

    python benchmarks/predictor.py [--networks 300] [--meter torch_cpu] [--to predictor.json]

Networks of random episodes in a convolutional space (images of 3 x 32 x 32, three stages of 16 channels, up to six
edits, up to four times the multiply-accumulates) are measured with the interleaved meter. Printed are the mean absolute
percentage error and the rank correlation over five folds, each predicted by a fit on the other four, beside the same
for a fit on multiply-accumulates alone. The file is written after every network; a second call goes on with it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from rlnas.graph import Graph
from rlnas.latency import METERS
from rlnas.latency.meter import Latency
from rlnas.latency.predictor import LatencyPredictor, collect
from rlnas.latency.ridge import fit
from rlnas.spaces import DEFAULT_VARIANTS, Limits, MorphSpace, conv_stages
from rlnas.spaces.sampling import distinct_graphs


def space() -> MorphSpace:
    """The space that networks are drawn from."""
    start = conv_stages((3, 32, 32), 10, stages=3, width=16)
    return MorphSpace(start, DEFAULT_VARIANTS, limits=Limits(macs=4 * start.macs))


def main() -> None:
    """Measure, fit, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=300)
    parser.add_argument("--meter", choices=("torch_cpu", "onnx_cpu"), default="torch_cpu")
    parser.add_argument("--max-time-s", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--to", type=Path, default=Path("predictor.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    meter = METERS[options.meter](max_time_s=options.max_time_s)
    predictor = LatencyPredictor.load(options.to) if options.to.exists() else LatencyPredictor(meter.description)
    graphs = distinct_graphs(space(), options.networks, seed=options.seed)

    def done(graph: Graph, latency: Latency) -> None:
        predictor.save(options.to)
        n = sum(len(row.latencies) for row in predictor.measured.values())
        print(f"{n:>4}/{2 * len(graphs)}  {latency.ms:8.4f} ms  {'; '.join(latency.warnings)}", flush=True)

    collect(predictor, graphs, meter=meter, passes=2, on_network=done)
    held_out = predictor.fit()
    predictor.save(options.to)
    rows = [row for _, row in sorted(predictor.measured.items())]
    macs = [{"count": 1.0, "macs": sum(v for k, v in row.features.items() if k.endswith(".macs"))} for row in rows]
    ms = np.array([row.ms for row in rows])
    _, plain = fit(macs, list(ms))
    apart = 100 * float(np.median([row.apart for row in rows]))
    print(f"{len(rows)} networks, {ms.min():.3f} to {ms.max():.3f} ms; their two measurements are {apart:.1f} % apart")
    print(f"{'held out':<28} {'mean error %':>12} {'Spearman':>9} {'95 % below %':>13}")
    for name, found in (("predictor", held_out), ("multiply-accumulates alone", plain)):
        print(f"{name:<28} {found.mape:>12.2f} {found.spearman:>9.4f} {100 * found.relative_95:>13.1f}")


if __name__ == "__main__":
    main()
