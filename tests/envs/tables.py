"""Tables that tests look things up in."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlnas.envs import TableProblem
from rlnas.spaces import DecisionSpace

SPACE = DecisionSpace.of({"depth": (1, 2, 3), "width": ("narrow", "wide"), "kernel": (3, 5, 7, 9), "skip": (0, 1)})


def table(seed: int = 0, *, share: float = 0.4, **settings: Any) -> TableProblem:
    """Random scores, of which those below a limit on latency are allowed."""
    generator = np.random.default_rng(seed)
    scores, latency = generator.random(SPACE.shape), 1 + generator.random(SPACE.shape)
    limits: dict[str, Any] = {} if share == 1 else {"allowed": latency <= np.quantile(latency, share)}
    columns = {"accuracy": scores, "latency_ms": latency}
    return TableProblem(SPACE, scores, columns=columns, hidden={"test": 1 - scores}, **limits | settings)


def far_start() -> tuple[TableProblem, dict[str, Any]]:
    """A table whose allowed assignments are two changes away from the start, and that start."""
    allowed = np.zeros(SPACE.shape, dtype=bool)
    allowed[1:, 1] = True
    start = {"depth": 1, "width": "narrow", "kernel": 3, "skip": 0}
    return TableProblem(SPACE, np.ones(SPACE.shape), form="edit", allowed=allowed, start=start), start
