"""`rlnas/NASBench201-v0`: find a cell of NAS-Bench-201, whose accuracies and latencies are known."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlnas.envs.build import decisions_text
from rlnas.envs.single import EpisodeEnv, given_or_made
from rlnas.envs.table_problem import TableProblem
from rlnas.envs.vector import EpisodeVectorEnv
from rlnas.errors import ConfigError
from rlnas.evaluation import load_nas_bench_201
from rlnas.spaces import Choice

QUERY_EPOCHS, TEST_EPOCHS = 12, 200
"""A search is paid the validation accuracy after the former, and judged by the test accuracy after the latter."""
START = "skip_connect"
"""What all edges do where the form ``"edit"`` begins, unless told otherwise."""

Cap = float | str | None
"""A number, or a quantile of all cells such as ``"20%"``."""


def make_nas_bench_201(
    path: str | Path | None = None,
    *,
    dataset: str = "cifar10",
    device: str | None = None,
    max_latency: Cap = None,
    max_params: Cap = None,
    max_macs: Cap = None,
    form: str = "build",
    start: Mapping[str, Choice] | None = None,
    max_steps: int | None = None,
) -> TableProblem:
    """NAS-Bench-201 as a problem: six decisions, one for each edge of the cell.

    The reward is the validation accuracy after 12 epochs. The test accuracy after 200, where the table has it, is in
    ``hidden["test_accuracy"]``, for whoever judges the search.

    Args:
        path: As in `rlnas.evaluation.load_nas_bench_201`.
        dataset: One that the table has accuracies of.
        device: One that the table has latencies of. Cells whose latency is a fault of the measurement are left out.
        max_latency: Limit on latency in milliseconds, or a quantile of the latencies such as ``"20%"``.
        max_params: Limit on parameters, in the same forms.
        max_macs: Limit on multiply-accumulates, in the same forms.
        form: ``"build"`` or ``"edit"``.
        start: Operation on each edge that the form ``"edit"`` begins with, by the edges' names ``0->1`` and so on; by
            default all skip.
        max_steps: Changes in an episode of the form ``"edit"``; 6 by default.

    Raises:
        ConfigError: If a name or a limit is not known, or no path is given.
        EvaluationError: If the table cannot be read.
        LimitError: If no cell meets the limits.
        SpaceError: If ``start`` is no cell.
    """
    table = load_nas_bench_201(path)
    accuracy = table.accuracy(dataset, "val", epochs=QUERY_EPOCHS)
    columns: dict[str, NDArray[Any]] = {"cell": table.cells, "accuracy": accuracy}
    if device is not None:
        columns["latency_ms"] = table.latency_ms(device)
    elif max_latency is not None:
        raise ConfigError(f"max_latency={max_latency!r} needs the device: {', '.join(table.devices)}")
    for own, name in (("n_params", "params"), ("macs", "macs"), ("query_s", "query_s")):
        if f"{dataset}_{name}" in table.columns:
            columns[own] = table.column(f"{dataset}_{name}")
    allowed, words = np.isfinite(accuracy) & np.isfinite(columns.get("latency_ms", accuracy)), []
    caps = {"latency_ms": ("max_latency", max_latency), "n_params": ("max_params", max_params)}
    for own, (name, setting) in (caps | {"macs": ("max_macs", max_macs)}).items():
        if setting is None:
            continue
        if own not in columns:
            raise ConfigError(f"{name}={setting!r}: {table.source} does not know it for {dataset}")
        limit = _cap(name, setting, columns[own])
        allowed &= columns[own] <= limit
        words.append(f"{own} <= {limit:.6g}")
    hidden = {}
    if f"{dataset}_test_ep{TEST_EPOCHS}" in table.columns:
        hidden["test_accuracy"] = table.accuracy(dataset, "test", epochs=TEST_EPOCHS)
    if form == "edit" and start is None:
        start = {decision.name: START for decision in table.space.decisions}
    return TableProblem(
        table.space,
        accuracy,
        form=form,
        allowed=allowed,
        limits=" and ".join(words) or "what the table knows",
        start=start,
        max_steps=max_steps,
        columns=columns,
        hidden=hidden,
    )


def _cap(name: str, setting: float | str, values: NDArray[Any]) -> float:
    """A limit as a number."""
    if isinstance(setting, str):
        match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(%?)\s*", setting)
        number = float(match.group(1)) if match else -1.0
        if match and match.group(2) and number <= 100:
            return float(np.nanquantile(values, number / 100))
        setting = number if match and not match.group(2) else -1.0
    if not 0 < setting < float("inf"):
        raise ConfigError(f"{name}={setting!r} is no limit; give a number above 0, or a quantile such as '20%'")
    return float(setting)


class NASBench201Env(EpisodeEnv):
    """Architecture design as six decisions, with known results.

    ## Description
    A cell of NAS-Bench-201 has four values and six edges, each of which does one of five operations. An episode decides
    for one edge after the other, or changes the edges of a cell. The accuracy of the network that stacks such cells is
    looked up: nothing is trained, and no network is built.

    ## Action Space
    `Discrete(31)`: 0 is STOP; `1 + edge * 5 + operation` chooses an operation for an edge. Legality, limits and
    `action_masks()` are those of `rlnas.envs.BuildEnv`.

    ## Observation Space
    That of `rlnas.envs.BuildEnv` for six decisions with up to five choices.

    | entry | type | size |
    |---|---|---|
    | `nodes` | Box(-1, 1), float32 | 6 x 14, row-major |
    | `node_mask` | Box(0, 1), float32 | 6 |
    | `context` | Box(-1, 1), float32 | 4 |
    | `action_mask` | MultiBinary | 31 |

    ## Rewards
    0 until the end, then the validation accuracy after 12 epochs, in [0, 1]; 0 if illegal actions left the cell
    unfinished or over a limit.

    ## Starting State
    In the form `"build"` nothing is decided; in the form `"edit"` all edges skip, unless `start` says otherwise.

    ## Episode End
    `terminated` after six steps in the form `"build"`; after STOP or `max_steps` changes in the form `"edit"`. Never
    `truncated`.

    ## Arguments
    Those of `rlnas.envs.make_nas_bench_201`, or a ready `problem`; `render_mode="ansi"` makes `render()` return a
    table.

    ## Version History
    v0: first version.

    References:
        Dong, Yang, NAS-Bench-201, ICLR 2020, arXiv:2001.00326.
    """

    problem: TableProblem

    def __init__(
        self, *, problem: TableProblem | None = None, seed: int = 0, render_mode: str | None = None, **settings: Any
    ) -> None:
        super().__init__(given_or_made(problem, make_nas_bench_201, settings), seed=seed, render_mode=render_mode)

    def _text(self) -> str:
        return decisions_text(self._episode)


def nas_bench_201_vector(
    num_envs: int = 1, *, problem: TableProblem | None = None, seed: int = 0, **settings: Any
) -> EpisodeVectorEnv:
    """Many `NASBench201Env` in lock-step, with the same arguments."""
    return EpisodeVectorEnv(num_envs, problem=given_or_made(problem, make_nas_bench_201, settings), seed=seed)
