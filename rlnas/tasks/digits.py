"""Handwritten digits that come with scikit-learn: 1,797 grey images of 8 by 8 pixels, nothing to download."""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
import torch

from rlnas.tasks.splitting import check_count, check_sizes, stratified_cuts
from rlnas.tasks.task import Split, Task, make_task

TRAIN_SIZE: Final = 1000
VALIDATION_SIZE: Final = 400
TEST_SIZE: Final = 397


def make_digits(*, train_size: int = TRAIN_SIZE, split_seed: int = 0) -> Task:
    """The digits, split into 1,000 for training, 400 for validation and 397 for the test.

    Args:
        train_size: Training examples; fewer than 1,000 make a smaller and faster task with the same other splits.
        split_seed: Which split.

    Raises:
        ConfigError: If an option has an impossible value.
    """
    check_count("train_size", train_size, least=10)
    check_count("split_seed", split_seed)
    check_sizes(TRAIN_SIZE, "the training split of digits", train_size=train_size)
    images, targets = _load()
    test, validation, train = (
        Split(inputs=images[index], targets=targets[index])
        for index in stratified_cuts(targets.numpy(), (TEST_SIZE, VALIDATION_SIZE, train_size), seed=split_seed)
    )
    return make_task(
        "digits",
        train=train,
        validation=validation,
        test=test,
        n_classes=10,
        input_description="8x8 grey images of digits, pixel / 16, float32 of shape (N, 1, 8, 8)",
    )


@cache
def _load() -> tuple[torch.Tensor, torch.Tensor]:
    """All images and their classes; reading them takes longer than many a step of a search."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = torch.from_numpy((data.images / 16.0).astype(np.float32)).unsqueeze(1)
    return images, torch.from_numpy(data.target.astype(np.int64))
