"""NATS-Bench's official files, one of bzip2-compressed pickle for each cell, read without running what is in them.

A pickle can name any function to be called. Here dictionaries, lists, texts and numbers are what they are; whatever
else a file names becomes an empty stand-in.

References:
    Dong et al., NATS-Bench: Benchmarking NAS Algorithms for Architecture Topology and Size, 2021, arXiv:2009.00437.
"""

from __future__ import annotations

import bz2
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rlnas.errors import EvaluationError

META: Final = "meta.pickle.pbz2"
SPLITS: Final = {
    "cifar10": {"val": ("cifar10-valid", "x-valid"), "test": ("cifar10", "ori-test")},
    "cifar100": {"val": ("cifar100", "x-valid"), "test": ("cifar100", "x-test")},
    "ImageNet16-120": {"val": ("ImageNet16-120", "x-valid"), "test": ("ImageNet16-120", "x-test")},
}
"""Which training and which of its evaluations give a data set's accuracies: CIFAR-10's networks are tested after a
training that takes in the validation images, the others' after the same training that is validated."""
EPOCHS: Final = (12, 200)


class StandIn:
    """What stands in for anything that a file names; it takes everything and does nothing."""

    def __init__(self, *_: Any, **__: Any) -> None: ...
    def __setstate__(self, _: Any) -> None: ...
    def __setitem__(self, _: Any, __: Any) -> None: ...
    def append(self, _: Any) -> None:
        """Nothing."""

    def extend(self, _: Any) -> None:
        """Nothing."""


def _scalar(kind: Any, content: Any = None) -> Any:
    """A number of NumPy's as one of Python's."""
    if not isinstance(kind, np.dtype) or kind.kind not in "biuf" or not isinstance(content, bytes):
        return StandIn()
    return np.frombuffer(content, kind)[0].item()


def _kind(name: Any, *_: Any) -> Any:
    """A plain NumPy type; nothing else."""
    return np.dtype(name) if isinstance(name, str) and name[:1] in "biuf" and name[1:].isdigit() else StandIn()


KNOWN: Final[Mapping[tuple[str, str], Any]] = {
    ("collections", "OrderedDict"): lambda *given: dict(*given),
    ("collections", "defaultdict"): lambda *_: {},
    ("builtins", "set"): set,
    ("numpy", "dtype"): _kind,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
}


class Restricted(pickle.Unpickler):
    """Reads plain data, and nothing that could run."""

    def find_class(self, module: str, name: str) -> Any:
        """One of `KNOWN`, or a stand-in."""
        return KNOWN.get((module, name), StandIn)

    def persistent_load(self, pid: Any) -> Any:
        """What lies outside of the file is not looked for."""
        return StandIn()


def read_pickle(path: Path) -> Any:
    """The plain data of one file.

    Raises:
        EvaluationError: If it cannot be read.
    """
    try:
        with bz2.open(path, "rb") as file:
            return Restricted(file).load()
    except (OSError, EOFError) as error:
        raise EvaluationError(f"cannot read {path}: {error}") from None
    except Exception as error:  # a damaged pickle can raise anything
        raise EvaluationError(f"{path} is damaged: {type(error).__name__}: {error}") from None


def read_nats_bench(folder: Path, *, partial: bool = False) -> tuple[list[str], dict[str, NDArray[np.float64]]]:
    """All cells of the folder ``NATS-tss-v1_0-3ffb9-simple``, and columns of what is known of them.

    Accuracies in percent, means over the trainings with different seeds; the latency, of its authors' GPU, is
    ``lat_ms_nats_{dataset}``. What a file does not know is not a number.

    Args:
        partial: Leave out the cells that there is no file for.

    Raises:
        EvaluationError: If a file cannot be read, is damaged or missing.
    """
    meta = read_pickle(folder / META)
    cells = meta.get("meta_archs") if isinstance(meta, dict) else None
    if not isinstance(cells, list) or not cells or not all(isinstance(cell, str) for cell in cells):
        raise EvaluationError(f"{folder / META} names no cells")
    files = [folder / f"{index:06d}.pickle.pbz2" for index in range(len(cells))]
    there = [index for index, file in enumerate(files) if file.exists()]
    if not there or (len(there) < len(cells) and not partial):
        raise EvaluationError(f"{folder} lacks the files of {len(cells) - len(there)} of {len(cells)} cells")
    rows = []
    for index in there:
        try:
            rows.append(_row(read_pickle(files[index])))
        except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
            raise EvaluationError(f"{files[index]} is not of NATS-Bench's form: {error!r}") from None
    names = sorted({name for row in rows for name in row})
    columns = {name: np.array([row.get(name, np.nan) for row in rows], dtype=np.float64) for name in names}
    return [cells[index] for index in there], columns


def _row(trained: Mapping[str, Any]) -> dict[str, float]:
    """What one cell's file says; ``trained`` holds what is known of trainings of 12 and of 200 epochs."""
    row: dict[str, float] = {}
    for epochs in EPOCHS:
        known = trained.get(f"{epochs:02d}")
        if known is None:
            continue
        for dataset, splits in SPLITS.items():
            for split, (training, evaluation) in splits.items():
                trials = _trials(known, training)
                accuracies = [trial["eval_acc1es"].get(f"{evaluation}@{epochs - 1}") for trial in trials]
                if accuracies and None not in accuracies:
                    row[f"{dataset}_{split}_ep{epochs}"] = fmean(accuracies)
            trials = _trials(known, splits["val"][0])
            row |= _costs(dataset, trials)
            if epochs == 12 and trials and (seconds := _query_s(trials, splits["val"][1])) is not None:
                row[f"{dataset}_query_s"] = seconds
    return row


def _trials(known: Mapping[str, Any], training: str) -> Sequence[Mapping[str, Any]]:
    seeds = known["dataset_seed"].get(training, ())
    return [known["all_results"][training, seed] for seed in seeds]


def _costs(dataset: str, trials: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    if not trials:
        return {}
    latencies = [fmean(trial["latency"]) for trial in trials if trial["latency"]]
    costs = {
        f"{dataset}_params": round(1e6 * float(trials[0]["params"])),
        f"{dataset}_macs": round(1e6 * float(trials[0]["flop"])),
    }
    return costs | ({f"lat_ms_nats_{dataset}": 1000 * fmean(latencies)} if latencies else {})


def _query_s(trials: Sequence[Mapping[str, Any]], evaluation: str) -> float | None:
    """Seconds of a training and of the validation after it, as the benchmark charges a search for them."""
    if any(trial["train_times"] is None or not trial["eval_times"] for trial in trials):
        return None
    spent = []
    for trial in trials:
        validations = [s for name, s in trial["eval_times"].items() if name.startswith(f"{evaluation}@")]
        spent.append(sum(trial["train_times"].values()) + fmean(validations))
    return fmean(spent)
