"""NAS-Bench-201 as a problem: which cells meet the limits, and what each is paid."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rlnas.envs.table_problem import TableProblem
from rlnas.errors import ConfigError
from rlnas.evaluation import load_nas_bench_201
from rlnas.rewards import COSTS, Facts, Reference, make_reward
from rlnas.spaces import Choice

QUERY_EPOCHS, TEST_EPOCHS = 12, 200
"""A search is paid the validation accuracy after the former, and judged by the test accuracy after the latter."""
START: Final = "skip_connect"
"""What all edges do where the form ``"edit"`` begins, unless told otherwise."""
REFERENCE: Final = "nor_conv_3x3"
"""What all edges of the cell do that rewards refer to, unless told otherwise."""

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
    min_latency: Cap = None,
    min_params: Cap = None,
    min_macs: Cap = None,
    reward: str | None = None,
    cost: str | None = None,
    target: float | None = None,
    target_ms: float | None = None,
    reward_options: Mapping[str, Any] | None = None,
    reference: Mapping[str, Choice] | None = None,
    form: str = "build",
    start: Mapping[str, Choice] | None = None,
    max_steps: int | None = None,
    step_reward: str = "end",
    discount: float | None = None,
) -> TableProblem:
    """NAS-Bench-201 as a problem: six decisions, one for each edge of the cell.

    The reward is the validation accuracy after 12 epochs, or one of `rlnas.rewards.REWARDS` of it and of a cost. The
    test accuracy after 200, where the table has it, is in ``hidden["test_accuracy"]``, for whoever judges the search.

    Args:
        path: As in `rlnas.evaluation.load_nas_bench_201`.
        dataset: One that the table has accuracies of.
        device: One that the table has latencies of. Cells whose latency is a fault of the measurement are left out.
        max_latency: Limit on latency in milliseconds, or a quantile of the latencies such as ``"20%"``.
        max_params: Limit on parameters, in the same forms.
        max_macs: Limit on multiply-accumulates, in the same forms.
        min_latency: Lower limit on latency, in the same forms, like those that follow.
        min_params: On parameters.
        min_macs: On multiply-accumulates.
        reward: Name of a reward that does not look back; by default the accuracy alone is paid.
        cost: The cost that it counts, one of `rlnas.rewards.COSTS`; ``"macs"`` by default.
        target: Target of a cost that is not latency.
        target_ms: Target latency.
        reward_options: Constants of the reward, instead of its own.
        reference: Operation on each edge of the cell that the reward refers to; by default all convolve by 3x3.
        form: ``"build"`` or ``"edit"``.
        start: Operation on each edge that the form ``"edit"`` begins with, by the edges' names ``0->1`` and so on; by
            default all skip. In the form ``"build"`` where every step is paid: what counts for edges still open.
        max_steps: Changes in an episode of the form ``"edit"``; 6 by default.
        step_reward: When an episode is paid, as for `TableProblem`: at the ``"end"``; or at every step too, by the
            ``"cost"`` that the reward counts, with the accuracy of ``reference``, or for what is met on the way, which
            is ``"evaluated"`` then.
        discount: That of the learner, with another ``step_reward`` than ``"end"``; 1 by default.

    Raises:
        ConfigError: If a name or a limit is not known, the reward cannot be had, or no path is given.
        EvaluationError: If the table cannot be read.
        LimitError: If no cell meets the limits.
        SpaceError: If ``start`` or ``reference`` is no cell.
    """
    table = load_nas_bench_201(path)
    accuracy = table.accuracy(dataset, "val", epochs=QUERY_EPOCHS)
    columns: dict[str, NDArray[Any]] = {"cell": table.cells, "accuracy": accuracy}
    if device is not None:
        columns["latency_ms"] = table.latency_ms(device)
    else:
        for name, setting in {"max_latency": max_latency, "min_latency": min_latency, "target_ms": target_ms}.items():
            if setting is not None:
                raise ConfigError(f"{name}={setting!r} needs the device: {', '.join(table.devices)}")
    for own, name in (("n_params", "params"), ("macs", "macs"), ("query_s", "query_s")):
        if f"{dataset}_{name}" in table.columns:
            columns[own] = table.column(f"{dataset}_{name}")
    allowed, words = np.isfinite(accuracy) & np.isfinite(columns.get("latency_ms", accuracy)), []
    limits = {
        "latency_ms": ("latency", min_latency, max_latency),
        "n_params": ("params", min_params, max_params),
        "macs": ("macs", min_macs, max_macs),
    }
    for own, (short, lower, upper) in limits.items():
        for name, setting in ((f"min_{short}", lower), (f"max_{short}", upper)):
            if setting is None:
                continue
            if own not in columns:
                raise ConfigError(f"{name}={setting!r}: {table.source} does not know it for {dataset}")
            limit = _limit(name, setting, columns[own])
            allowed &= columns[own] >= limit if name.startswith("min") else columns[own] <= limit
            words.append(f"{own} {'>=' if name.startswith('min') else '<='} {limit:.6g}")
    scores, cost_scores = accuracy, None
    if reward is not None:
        cell = table.space.from_choices(reference or {d.name: REFERENCE for d in table.space.decisions})
        cost = "macs" if cost is None else cost
        if cost in COSTS and cost not in columns:
            lacks = "needs the device" if cost == "latency_ms" else f"{table.source} does not know it for {dataset}"
            raise ConfigError(f"the reward {reward!r} of {cost}: {lacks}")
        given = {"cost": cost, "target": target, "target_ms": target_ms, "options": reward_options}
        refer_to = table.space.number(cell)
        scores = _rewards(reward, columns, refer_to=refer_to, given=given)
        if step_reward == "cost":
            alike = columns | {"accuracy": np.full_like(accuracy, accuracy[refer_to])}
            cost_scores = _rewards(reward, alike, refer_to=refer_to, given=given)
    else:
        if step_reward == "cost":
            raise ConfigError(
                "step_reward='cost' pays what a reward says of a cost; name one, such as reward='tangent'"
            )
        idle = {
            "cost": cost,
            "target": target,
            "target_ms": target_ms,
            "reward_options": reward_options,
            "reference": reference,
        }
        for name, value in idle.items():
            if value is not None:
                raise ConfigError(f"{name}={value!r} does nothing without a reward; name one, or leave it out")
    hidden = {}
    if f"{dataset}_test_ep{TEST_EPOCHS}" in table.columns:
        hidden["test_accuracy"] = table.accuracy(dataset, "test", epochs=TEST_EPOCHS)
    if start is None and (form == "edit" or step_reward != "end"):
        start = {decision.name: START for decision in table.space.decisions}
    return TableProblem(
        table.space,
        scores,
        form=form,
        allowed=allowed,
        limits=" and ".join(words) or "what the table knows",
        start=start,
        max_steps=max_steps,
        columns=columns,
        hidden=hidden,
        step_reward=step_reward,
        cost_scores=cost_scores,
        discount=discount,
    )


def _rewards(
    name: str, columns: Mapping[str, NDArray[Any]], *, refer_to: int, given: Mapping[str, Any]
) -> NDArray[np.float64]:
    """What each cell is paid; not a number where the table does not know what that depends on."""
    known = {cost: columns[cost] for cost in COSTS if cost in columns}

    def facts(cell: int) -> Facts:
        costs = {cost: float(values[cell]) for cost, values in known.items()}
        return Facts(
            accuracy=float(columns["accuracy"][cell]),
            latency_ms=costs.get("latency_ms"),
            n_params=int(costs.get("n_params", 0)),
            macs=int(costs.get("macs", 0)),
        )

    refers = facts(refer_to)
    paid = make_reward(
        name, reference=Reference((refers.accuracy,), refers.latency_ms, refers.n_params, refers.macs), **given
    )
    if paid.looks_back:
        raise ConfigError(
            f"the reward {name!r} depends on what was looked up before; a table pays a cell always the same"
        )
    usable = np.isfinite(np.stack([columns["accuracy"], *known.values()])).all(axis=0)
    return np.array([paid(facts(cell)) if usable[cell] else np.nan for cell in range(len(usable))])


def _limit(name: str, setting: float | str, values: NDArray[Any]) -> float:
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
