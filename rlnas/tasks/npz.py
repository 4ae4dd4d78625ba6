"""A person's own arrays, from one ``.npz`` file as ``numpy.savez`` writes it."""

from __future__ import annotations

import os
import re
import zipfile
import zlib
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from rlnas.errors import ConfigError, TaskError
from rlnas.tasks.splitting import check_count, check_path, stratified_cuts
from rlnas.tasks.task import Split, Task, make_task

Arrays = tuple[NDArray[np.float32], NDArray[np.int64]]

SPLITS: Final = ("train", "validation", "test")
NAMES: Final = tuple(f"{kind}_{split}" for split in SPLITS for kind in "xy")
DEFAULT_SHARE: Final = 0.2
MAX_LABEL: Final = 2**31
CHANNEL_COUNTS: Final = (1, 3, 4)
"""A last dimension of this size, and a larger one where channels belong, looks like channels last."""


def make_npz(
    *,
    path: str | os.PathLike[str],
    channels_last: bool | None = None,
    validation_size: float | None = None,
    test_size: float | None = None,
    split_seed: int = 0,
) -> Task:
    """A classification task from arrays ``x_train``, ``y_train`` and, where they exist, ``x_validation`` and so on.

    Inputs are grey images of shape (N, H, W), or images with channels of shape (N, C, H, W). They are uint8, divided by
    255, or floats, taken as they are. Labels are whole numbers from 0 to k - 1, shape (N,). A split that the file does
    not hold is cut from the training arrays, each class by its share.

    Args:
        path: The file. It is read without pickle, so that opening a stranger's file runs no code of it.
        channels_last: True if images are (N, H, W, C), False if (N, C, H, W); by default (N, C, H, W), with an error
            where the shape looks like the other.
        validation_size: Number, or share below 1, of training examples to cut for validation: 0.2 by default.
        test_size: The same for the test.
        split_seed: Which examples are cut.

    Raises:
        ConfigError: If an option has an impossible value, or asks to cut a split that the file holds.
        TaskError: If the file is missing, damaged or not of this form.
    """
    check_count("split_seed", split_seed)
    if channels_last is not None and not isinstance(channels_last, bool):
        raise ConfigError(f"task option channels_last={channels_last!r} must be true or false")
    file = check_path("path", path)
    raw = _load(file)
    given = {
        split: _arrays(file, split, raw[f"x_{split}"], raw[f"y_{split}"], channels_last=channels_last)
        for split in SPLITS
        if f"x_{split}" in raw
    }
    n_classes = _check_together(file, given)
    parts = _cut(file, given, {"test": test_size, "validation": validation_size}, seed=split_seed)
    if missing := set(range(n_classes)) - set(np.unique(parts["train"][1]).tolist()):
        raise TaskError(
            f"{file} has too few examples of class {min(missing)}: "
            "none is left for training after the other splits are cut"
        )
    shape = parts["train"][0].shape[1:]
    scale = "pixel / 255" if raw["x_train"].dtype == np.uint8 else "values as they are"
    return make_task(
        "npz",
        **{name: Split(torch.from_numpy(x), torch.from_numpy(y)) for name, (x, y) in parts.items()},
        n_classes=n_classes,
        input_description=f"arrays of {file.name}, {scale}, float32 of shape (N, {', '.join(map(str, shape))})",
    )


def _load(file: Path) -> dict[str, NDArray[Any]]:
    """The arrays of the file that matter, as they are."""
    if not file.is_file():
        raise TaskError(f"{file} is not a file; task.path must name an .npz file with x_train and y_train")
    name = ""
    try:
        with open(file, "rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise TaskError(f"{file} holds a single array; expected an .npz file with x_train and y_train")
            _check_names(file, archive.files)
            arrays = {}
            for name in NAMES:
                if name in archive.files:
                    arrays[name] = archive[name]
            return arrays
    except (ValueError, zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError) as error:
        where = f"array {name!r} of {file}" if name else f"{file}"
        if name and "allow_pickle" in str(error):
            raise TaskError(
                f"{where} is an object array, hence pickled, and pickles are never opened; "
                "save plain number arrays with numpy.savez(path, x_train=..., y_train=...)"
            ) from None
        if not name:
            raise TaskError(f"{where} is damaged or no .npz file; numpy.savez writes them") from None
        raise TaskError(f"{where} is damaged: {_one_line(error)}; get a new copy of it") from None
    except MemoryError:
        raise TaskError(f"array {name!r} of {file} does not fit into memory") from None
    except OSError as error:
        raise TaskError(f"cannot read {file}: {error.strerror or _one_line(error)}") from None


def _one_line(error: Exception) -> str:
    return re.sub(r"\s+", " ", str(error)).strip()


def _check_names(file: Path, names: list[str]) -> None:
    for name in names:
        if name[:2] in ("x_", "y_") and name not in NAMES:
            raise TaskError(f"{file} holds an array {name!r}; the names known are {', '.join(NAMES)}")
    for split in SPLITS:
        x, y = (f"{kind}_{split}" in names for kind in "xy")
        if x != y or (split == "train" and not x):
            missing = f"{'y' if x else 'x'}_{split}"
            raise TaskError(f"{file} has no array {missing!r}; it holds {', '.join(sorted(names)) or 'nothing'}")


def _arrays(file: Path, split: str, x: NDArray[Any], y: NDArray[Any], *, channels_last: bool | None) -> Arrays:
    """Checked inputs as float32 of shape (N, C, H, W) and targets as int64 of shape (N,)."""
    what = f"x_{split} of {file}"
    if x.ndim not in (3, 4) or 0 in x.shape:
        raise TaskError(f"{what} has shape {x.shape}; expected (N, H, W) or (N, C, H, W), none of them 0")
    if x.dtype != np.uint8 and x.dtype.kind != "f":
        raise TaskError(f"{what} is of type {x.dtype}; expected uint8 (divided by 255) or floats (taken as they are)")
    if x.ndim == 3:
        if channels_last is not None:
            raise ConfigError(
                f"task option channels_last={channels_last}: {what} has shape {x.shape}, without channels"
            )
        x = x[:, None]
    elif channels_last:
        x = x.transpose(0, 3, 1, 2)
    elif channels_last is None and x.shape[3] in CHANNEL_COUNTS and x.shape[1] > max(CHANNEL_COUNTS):
        raise TaskError(
            f"{what} has shape {x.shape}, which looks like channels last; set the task option channels_last to true, "
            "or to false if the second dimension is the channels"
        )
    with np.errstate(over="ignore"):
        inputs = np.ascontiguousarray(x, dtype=np.float32)
    if x.dtype == np.uint8:
        inputs /= np.float32(255.0)
    elif not np.isfinite(inputs).all():
        index = int(np.argmin(np.isfinite(inputs).all(axis=(1, 2, 3))))
        raise TaskError(f"{what} holds NaN, infinity or a number beyond float32, first in example {index}")
    what = f"y_{split} of {file}"
    if y.dtype.kind not in "iu" or y.ndim != 1:
        raise TaskError(f"{what} is {y.dtype} of shape {y.shape}; expected whole numbers of shape (N,), a class each")
    if len(y) != len(x):
        raise TaskError(f"{file} holds {len(x)} inputs in x_{split} but {len(y)} labels in y_{split}")
    if y.min() < 0 or y.max() > MAX_LABEL:
        raise TaskError(f"{what} goes from {y.min()} to {y.max()}; expected classes 0, 1, 2, ...")
    return inputs, y.astype(np.int64)


def _check_together(file: Path, given: dict[str, Arrays]) -> int:
    """Number of classes; the training arrays must show them all."""
    x, y = given["train"]
    seen = np.unique(y)
    n_classes = len(seen)
    if seen[-1] >= n_classes:
        gap = int(np.argmax(seen != np.arange(n_classes)))
        raise TaskError(
            f"y_train of {file} goes up to {seen[-1]} but has no example of class {gap}; "
            "number the classes 0, 1, 2, ... without a gap"
        )
    if n_classes < 2:
        raise TaskError(f"y_train of {file} holds one class only; expected at least two")
    for split, (others, labels) in given.items():
        if others.shape[1:] != x.shape[1:]:
            raise TaskError(f"{file} holds inputs of {x.shape[1:]} in x_train but {others.shape[1:]} in x_{split}")
        if labels.max() >= n_classes:
            raise TaskError(f"y_{split} of {file} holds class {labels.max()}, which y_train has no example of")
    return n_classes


def _cut(file: Path, given: dict[str, Arrays], sizes: dict[str, float | None], *, seed: int) -> dict[str, Arrays]:
    """All three splits; those that are not given are cut from the training arrays."""
    x, y = given["train"]
    counts: dict[str, int] = {}
    for split, size in sizes.items():
        if split not in given:
            counts[split] = _count(f"{split}_size", DEFAULT_SHARE if size is None else size, len(y))
        elif size is not None:
            raise ConfigError(f"task option {split}_size={size!r}: {file} holds its own x_{split}, so nothing is cut")
    left = len(y) - sum(counts.values())
    if left < 2 or 0 in counts.values():
        cut = " and ".join(f"{n} for {split}" for split, n in counts.items()) or "nothing"
        raise TaskError(f"{file} has too few training examples: {len(y)}, of which {cut} would be cut")
    if not counts:
        return given
    *parts, rest = stratified_cuts(y, [*counts.values(), left], seed=seed)
    pieces = dict(zip(counts, parts, strict=True)) | {"train": rest}
    return given | {split: (x[index], y[index]) for split, index in pieces.items()}


def _count(name: str, size: Any, available: int) -> int:
    if isinstance(size, float) and 0 < size < 1:
        return round(size * available)
    return check_count(name, size, least=1)
