"""Does compensation give back what pruning in one shot takes?

    python benchmarks/pruning.py [--networks resnet20 mobilenetv2] [--shares 0.3 0.5] [--seeds 3] [--resolution 28]
                                 [--calibration 512] [--checkpoints DIR] [--output pruning.json]

Protocol. ResNet-20 (CIFAR form) and a narrow MobileNetV2 (`networks.py`) are trained on 10,000 images of Fashion-MNIST
for 6 epochs from fresh weights by `rlnas.evaluation.TrainingEvaluator` (SGD with Nesterov momentum 0.9, learning rate
0.1, batches of 64). From every group of channels the same share is removed at once, and nothing is trained after that.
Accuracy is that on images of the validation split; the test split is never looked at. One seed is one split and one
training; intervals (95 %, Student's t) are over seeds.

Compared.
- plain: the channels of least magnitude go (`prune_width` without calibration inputs).
- plain, statistics anew: the same, and BatchNorm's statistics are taken anew on the calibration images.
- Torch-Pruning: its magnitude pruning (L2 norm) of the same networks at the same share in every group.
- compensated, by each criterion: `prune_width` with calibration images, the first of the training split, without
  their labels.
- compensated, group by group: `prune_channels` on one group after the other with the same images.

Recovered is the share of the accuracy that plain removal loses and that is back: (accuracy - plain) / (dense - plain).
The last column is the same with Torch-Pruning in the place of plain. Needs `pip install torch-pruning`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from networks import CifarResNet, NarrowMobileNetV2
from torch import Tensor, nn

import rlnas
from rlnas.evaluation import TrainingEvaluator
from rlnas.evaluation.fitting import predict, reestimate_batch_norm
from rlnas.network import Network
from rlnas.operators import Operator, get_operator
from rlnas.operators.criteria import CRITERIA
from rlnas.operators.shrink_width import PruneWidth
from rlnas.report.statistics import Estimate, mean_interval
from rlnas.tasks import Task, load_task

NETWORKS: Mapping[str, Callable[[], nn.Module]] = {
    "resnet20": lambda: CifarResNet(20, channels=1),
    "mobilenetv2": NarrowMobileNetV2,
}
TRAIN_SIZE, BATCH_SIZE, LEARNING_RATE = 10_000, 64, 0.1
PLAIN, ANEW, THEIRS, STEPWISE = "plain", "plain, statistics anew", "Torch-Pruning", "compensated, group by group"
TARGET = 0.5


@dataclass(frozen=True)
class Row:
    """One network after one way of pruning.

    Attributes:
        network: Key of NETWORKS.
        seed: Split and training.
        share: Channels removed from every group.
        method: How.
        dense: Accuracy before.
        accuracy: Accuracy after.
        n_params: Parameters that are left.
        duration_s: Time that pruning and compensation took.
    """

    network: str
    seed: int
    share: float
    method: str
    dense: float
    accuracy: float
    n_params: int
    duration_s: float


def trained(name: str, task: Task, *, seed: int, epochs: float, folder: Path | None) -> Network:
    """The dense network, from a folder of earlier ones if it is there."""
    path = folder / f"{name}_{task.input_shape[1]}_{epochs:g}_{seed}" if folder else None
    if path and path.exists():
        return rlnas.load(path)
    torch.manual_seed(seed)
    network = rlnas.from_module(NETWORKS[name](), task.train.inputs[:1])
    evaluator = TrainingEvaluator(task, epochs=epochs, batch_size=BATCH_SIZE, learning_rate=LEARNING_RATE)
    evaluation = evaluator.evaluate(network, seed=seed)
    if evaluation.trained is None:
        raise SystemExit(f"a training failed: {evaluation.reason}")
    if path:
        evaluation.trained.save(path)
    return evaluation.trained


def accuracy(module: nn.Module, task: Task, images: int) -> float:
    """Share of the first validation images that are classified correctly."""
    inputs, targets = task.validation.inputs[:images], task.validation.targets[:images]
    return task.accuracy(predict(module.eval(), inputs, batch_size=250), targets)


# ------------------------------------------------------------------------------------------------------- ways to prune


def pruned(network: Network, operator: Operator, share: float, calibration: Tensor | None) -> nn.Module:
    """All sites that an operator has in the network as it is, one after the other."""
    for site in operator.sites(network.graph, (share,)):
        generator = torch.Generator().manual_seed(0)
        network = operator.apply(network, site, generator=generator, calibration=calibration)
    return network.module()


def anew(network: Network, share: float, calibration: Tensor) -> nn.Module:
    """Plain removal, and BatchNorm's statistics of the calibration images."""
    module = pruned(network, PruneWidth("magnitude"), share, None)
    reestimate_batch_norm(module, calibration, batch_size=256)
    return module


def theirs(network: Network, share: float) -> nn.Module:
    """Torch-Pruning's magnitude pruning of every group but the output."""
    import torch_pruning

    module = network.module().eval()
    example = torch.zeros(1, *network.graph.input_shape)
    ignored = [part for part in module.modules() if isinstance(part, nn.Linear)]
    torch_pruning.pruner.BasePruner(
        module,
        example,
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=share,
        ignored_layers=ignored,
    ).step()
    return module


def methods(network: Network, share: float, calibration: Tensor) -> dict[str, Callable[[], nn.Module]]:
    """All ways of pruning by their names."""
    found: dict[str, Callable[[], nn.Module]] = {
        PLAIN: lambda: pruned(network, PruneWidth("magnitude"), share, None),
        ANEW: lambda: anew(network, share, calibration),
        THEIRS: lambda: theirs(network, share),
    }
    for name in CRITERIA:
        found[f"compensated, {name}"] = lambda name=name: pruned(  # type: ignore[misc]
            network, PruneWidth(name), share, calibration
        )
    found[STEPWISE] = lambda: pruned(network, get_operator("prune_channels"), share, calibration)
    return found


def measure(name: str, *, seed: int, options: argparse.Namespace) -> list[Row]:
    """Every way of pruning one trained network."""
    task = load_task(
        "fashion_mnist",
        path=options.path,
        split_seed=seed,
        resolution=options.resolution,
        train_size=TRAIN_SIZE,
    )
    network = trained(name, task, seed=seed, epochs=options.epochs, folder=options.checkpoints)
    dense = accuracy(network.module(), task, options.images)
    rows = []
    for share in options.shares:
        for method, prune in methods(network, share, task.calibration(options.calibration)).items():
            begin = time.perf_counter()
            module = prune()
            took = time.perf_counter() - begin
            size = sum(parameter.numel() for parameter in module.parameters())
            rows.append(Row(name, seed, share, method, dense, accuracy(module, task, options.images), size, took))
            print(f"{name} seed {seed} {share:g} {method}: {rows[-1].accuracy:.4f}", file=sys.stderr, flush=True)
    return rows


# ------------------------------------------------------------------------------------------------------------ figures


def percent(estimate: Estimate) -> str:
    """An estimate and its interval in per cent."""
    if estimate.interval is None:
        return f"{100 * estimate.mean:.1f}"
    low, high = (100 * end for end in estimate.interval)
    return f"{100 * estimate.mean:.1f} [{low:.1f}, {high:.1f}]"


def recovered(rows: Sequence[Row], method: str, reference: str) -> Estimate:
    """Share of the accuracy lost by a way of pruning that another one does not lose, over the seeds."""
    by = {(row.method, row.seed): row for row in rows}
    shares = []
    for seed in sorted({row.seed for row in rows}):
        here, lost = by[method, seed], by[reference, seed]
        shares.append((here.accuracy - lost.accuracy) / max(here.dense - lost.accuracy, 1e-9))
    return mean_interval(shares)


def report(rows: Sequence[Row]) -> str:
    """The tables as text."""
    lines = []
    for name, share in dict.fromkeys((row.network, row.share) for row in rows):
        here = [row for row in rows if (row.network, row.share) == (name, share)]
        dense = mean_interval([row.dense for row in here if row.method == PLAIN])
        seeds = len({row.seed for row in here})
        lines.append(f"{name}, {share:.0%} of the channels removed; {seeds} seeds; dense accuracy {percent(dense)} %")
        lines.append(f"  {'':34}{'accuracy, %':>22}{'recovered, %':>24}{'of Torch-Pruning, %':>24}{'size':>9}{'s':>7}")
        for method in dict.fromkeys(row.method for row in here):
            mine = [row for row in here if row.method == method]
            back, against = recovered(here, method, PLAIN), recovered(here, method, THEIRS)
            words = ["" if method == reference else percent(e) for reference, e in ((PLAIN, back), (THEIRS, against))]
            value = percent(mean_interval([row.accuracy for row in mine]))
            size, took = mine[0].n_params, sum(row.duration_s for row in mine) / len(mine)
            lines.append(f"  {method:34}{value:>22}{words[0]:>24}{words[1]:>24}{size:9,}{took:7.1f}")
        default = recovered(here, "compensated, reconstruction", PLAIN)
        verdict = "reached" if default.mean >= TARGET else "missed"
        lines.append(f"  the default criterion recovers {percent(default)} %: the target of {TARGET:.0%} is {verdict}")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=sorted(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--shares", nargs="+", type=float, default=[0.3, 0.5])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=6, help="of training the dense networks")
    parser.add_argument("--resolution", type=int, default=28, help="28, or 14 for a quarter of the time")
    parser.add_argument("--calibration", type=int, default=512, help="training images to refit on")
    parser.add_argument("--images", type=int, default=5000, help="validation images to score on")
    parser.add_argument("--path", help="folder of the data (that of the Debian package)")
    parser.add_argument("--checkpoints", type=Path, help="folder in which trained dense networks are kept")
    parser.add_argument("--output", type=Path, help="also write all rows as JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [
        row
        for name in options.networks
        for seed in range(options.seeds)
        for row in measure(name, seed=seed, options=options)
    ]
    print(report(rows))
    if options.output:
        options.output.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
