"""Small pieces of Python text for the sources of ops."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rlnas.graph.node import Node


def sizes(value: tuple[int, ...]) -> str:
    """One number where all are the same, else a tuple."""
    return str(value[0]) if len(set(value)) == 1 else str(tuple(value))


def arguments(first: Iterable[str], node: Node, defaults: Mapping[str, Any]) -> str:
    """Positional arguments, then those attributes that are not at PyTorch's default."""
    words = list(first)
    for name, default in defaults.items():
        value = node[name]
        if value != default:
            words.append(f"{name}={sizes(value) if isinstance(value, tuple) else repr(value)}")
    return ", ".join(words)


def dim(axis: int) -> int:
    """An axis of one sample as an axis of a batch."""
    return axis + 1
