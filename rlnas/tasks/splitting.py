"""Splits that keep each class's share and are the same on every machine for the same seed; checks of options."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlnas.errors import ConfigError


def stratified_cuts(targets: NDArray[np.int64], sizes: Sequence[int], *, seed: int) -> list[NDArray[np.int64]]:
    """Indices of disjoint parts, in each of which every class has its share of the whole, give or take two examples.

    Each class's examples are shuffled and placed evenly between 0 and 1; parts are consecutive pieces of all classes
    put together in that order, so that the beginning of a part is as balanced as the part itself.

    Args:
        targets: Class of each example, shape (N,).
        sizes: Size of each part; together at most N.
        seed: Only source of randomness. Its stream is numpy's RandomState, which is frozen across numpy versions.
    """
    assert sum(sizes) <= len(targets) and min(sizes) >= 0
    shuffled = np.random.RandomState(seed).permutation(len(targets))
    place = np.empty(len(targets))
    for label in np.unique(targets):
        members = targets[shuffled] == label
        count = int(members.sum())
        place[members] = (np.arange(count) + 0.5) / count
    order: NDArray[np.int64] = shuffled[np.argsort(place, kind="stable")].astype(np.int64)
    ends = np.cumsum(sizes)
    return [order[end - size : end] for size, end in zip(sizes, ends, strict=True)]


def check_count(name: str, value: Any, *, least: int = 0) -> int:
    """An option that must be a whole number.

    Raises:
        ConfigError: If it is not one, or is below ``least``.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**32:
        raise ConfigError(f"task option {name}={value!r} must be a whole number of at least {least}")
    return value


def check_path(name: str, value: Any) -> Path:
    """An option that must be the name of a file or folder; ``~`` stands for the home folder.

    Raises:
        ConfigError: If it is not one.
    """
    if not isinstance(value, str | os.PathLike) or not str(value):
        raise ConfigError(f"task option {name}={value!r} must be the name of a file or folder")
    return Path(value).expanduser()


def check_sizes(available: int, source: str, **sizes: int) -> None:
    """Check that parts fit into the examples that there are.

    Raises:
        ConfigError: If they do not.
    """
    if sum(sizes.values()) > available:
        wanted = " + ".join(f"{name}={size}" for name, size in sizes.items())
        raise ConfigError(f"{wanted} is more than the {available} examples in {source}")
