"""Fashion-MNIST: 70,000 grey images of clothing, 28 by 28 pixels, ten classes, read from the four original files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from rlnas.errors import ConfigError, TaskError
from rlnas.tasks.idx import read_idx
from rlnas.tasks.splitting import check_count, check_path, check_sizes, stratified_cuts
from rlnas.tasks.task import Split, Task, make_task

DEBIAN_FOLDER: Final = Path("/usr/share/datasets/fashion-mnist")
"""Where the Debian and Ubuntu package ``dataset-fashion-mnist`` puts the files."""

SIDE: Final = 28
N_CLASSES: Final = 10
RESOLUTIONS: Final = (28, 14)


def make_fashion_mnist(
    *,
    path: str | os.PathLike[str] | None = None,
    resolution: int = 28,
    train_size: int | None = None,
    validation_size: int = 10_000,
    split_seed: int = 0,
) -> Task:
    """Fashion-MNIST; the test split is the official one, the validation split is cut from the official training split.

    Args:
        path: Folder of the four IDX files, gzipped or plain; without it the folder of the Debian package.
        resolution: 28, or 14 for images averaged over 2 by 2 pixels (faster).
        train_size: Training examples; all that are left after validation by default.
        validation_size: Examples for validation.
        split_seed: Which examples are for validation.

    Raises:
        ConfigError: If an option has an impossible value.
        TaskError: If a file is missing or damaged.

    References:
        Xiao, Rasul, Vollgraf, Fashion-MNIST, 2017, arXiv:1708.07747.
    """
    if resolution not in RESOLUTIONS or isinstance(resolution, bool):
        raise ConfigError(f"task option resolution={resolution!r} must be one of {', '.join(map(str, RESOLUTIONS))}")
    check_count("split_seed", split_seed)
    check_count("validation_size", validation_size, least=1)
    if train_size is not None:
        check_count("train_size", train_size, least=N_CLASSES)
    folder = _folder(path)
    images, labels = _read_pair(folder, "train")
    test_images, test_labels = _read_pair(folder, "t10k")
    if train_size is None:
        train_size = max(N_CLASSES, len(labels) - validation_size)
    check_sizes(len(labels), str(folder), train_size=train_size, validation_size=validation_size)
    validation, train = stratified_cuts(labels, (validation_size, train_size), seed=split_seed)
    pooled = "" if resolution == SIDE else ", averaged over 2x2 pixels"
    return make_task(
        "fashion_mnist",
        train=_split(images[train], labels[train], resolution),
        validation=_split(images[validation], labels[validation], resolution),
        test=_split(test_images, test_labels, resolution),
        n_classes=N_CLASSES,
        input_description=(
            f"28x28 grey images of clothing, pixel / 255{pooled}, float32 of shape (N, 1, {resolution}, {resolution})"
        ),
    )


def _folder(path: str | os.PathLike[str] | None) -> Path:
    if path is None:
        if DEBIAN_FOLDER.is_dir():
            return DEBIAN_FOLDER
        raise TaskError(
            f"Fashion-MNIST is not at {DEBIAN_FOLDER}: install the Debian package dataset-fashion-mnist, "
            "or set task.path to a folder with its four IDX files (train-images-idx3-ubyte.gz and so on)"
        )
    folder = check_path("path", path)
    if not folder.is_dir():
        raise TaskError(f"{folder} is not a folder; task.path must name the folder with Fashion-MNIST's four IDX files")
    return folder


def _read_pair(folder: Path, prefix: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    images_file = _file(folder, f"{prefix}-images-idx3-ubyte")
    labels_file = _file(folder, f"{prefix}-labels-idx1-ubyte")
    images = read_idx(images_file, item_shape=(SIDE, SIDE))
    labels = read_idx(labels_file, item_shape=())
    if len(images) != len(labels):
        raise TaskError(f"{images_file} holds {len(images)} images but {labels_file} {len(labels)} labels")
    if set(np.unique(labels).tolist()) != set(range(N_CLASSES)):
        raise TaskError(f"{labels_file} holds the labels {np.unique(labels).tolist()}; expected each of 0 to 9")
    return images, labels.astype(np.int64)


def _file(folder: Path, name: str) -> Path:
    for candidate in (folder / f"{name}.gz", folder / name):
        if candidate.is_file():
            return candidate
    raise TaskError(f"{folder} has neither {name}.gz nor {name}; expected the four IDX files of Fashion-MNIST")


def _split(images: NDArray[np.uint8], labels: NDArray[np.int64], resolution: int) -> Split:
    inputs: Tensor = torch.from_numpy(images.astype(np.float32)).unsqueeze(1) / 255.0
    if resolution != SIDE:
        inputs = F.avg_pool2d(inputs, SIDE // resolution)
    return Split(inputs=inputs, targets=torch.from_numpy(labels.copy()))
