"""A surrogate of training: accuracy predicted from features of the graph, with its uncertainty.

Bayesian ridge regression, its two precisions found by maximizing the evidence. Intervals are scaled by cross-validation
(conformal prediction), so that they hold about as often as they say also where the noise is not normal.

References:
    MacKay, Bayesian Interpolation, Neural Computation 4, 1992.
    Vovk, Cross-conformal predictors, Annals of Mathematics and Artificial Intelligence 74, 2015, arXiv:1208.0806.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rlnas.errors import EvaluationError
from rlnas.evaluation.records import Record
from rlnas.graph import OPS, Graph
from rlnas.graph.ops import is_depthwise

Array = NDArray[np.float64]

FAMILIES: Final = tuple(sorted({op.family for op in OPS.values()}))
KERNELS: Final = (1, 3, 5, 7)
LEAST: Final = 8
"""Fewest networks that anything is learnt from."""
ROUNDS, TOLERANCE = 300, 1e-6
FOLDS: Final = 10


def graph_features(graph: Graph) -> dict[str, float]:
    """Sizes, counts and widths of a graph, most of them as logarithms; the same names for every graph."""
    counts = dict.fromkeys(FAMILIES, 0)
    kernels = dict.fromkeys(KERNELS, 0)
    widths: list[float] = []
    depthwise = 0
    for node in graph.nodes:
        counts[OPS[node.op].family] += 1
        if node.op.startswith("conv"):
            kernels[min(KERNELS, key=lambda k: abs(k - max(node["kernel_size"])))] += 1
            depthwise += is_depthwise(node, graph.input_shapes(node.id))
        if OPS[node.op].family in ("conv", "linear"):
            widths.append(math.log(node["out_channels"]))
    return {
        "log n_params": math.log1p(graph.n_params),
        "log macs": math.log1p(graph.macs),
        "log peak_memory_bytes": math.log(graph.peak_memory_bytes),
        "log nodes": math.log(len(graph)),
        "log depth": math.log1p(graph.depths[graph.output]),
        "log output places": math.log(max(math.prod(graph.shapes[i]) for i in graph.node(graph.output).inputs)),
        "mean log width": float(np.mean(widths)) if widths else 0.0,
        "max log width": max(widths, default=0.0),
        "log depthwise": math.log1p(depthwise),
        **{f"log {family}": math.log1p(n) for family, n in counts.items()},
        **{f"log kernel {k}": math.log1p(n) for k, n in kernels.items()},
    }


@dataclass(frozen=True)
class Prediction:
    """What a surrogate expects of a network.

    Attributes:
        mean: The accuracy.
        std: Standard deviation, of what is not known of the weights and of the noise together.
        interval: Conformal 90 % interval.
    """

    mean: float
    std: float
    interval: tuple[float, float]


class Surrogate:
    """A fitted regression of accuracy on features.

    Args:
        rows: Features of the networks it learns from; all with the same names.
        accuracies: Their accuracies.

    Raises:
        EvaluationError: If there are fewer than `LEAST` networks, or a number is not finite.
    """

    def __init__(self, rows: Sequence[Mapping[str, float]], accuracies: Sequence[float]) -> None:
        if len(rows) < LEAST:
            raise EvaluationError(
                f"a surrogate needs at least {LEAST} networks to learn from, and there are {len(rows)}"
            )
        self.names = tuple(rows[0])
        x, y = _matrix(rows, self.names), np.asarray(accuracies, dtype=np.float64)
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            raise EvaluationError("a surrogate cannot learn from features or accuracies that are not finite")
        self.n = len(y)
        self._fit = _Fit(x, y)
        self._quantile = _conformal(x, y)

    @classmethod
    def of_records(cls, records: Iterable[Record], *, task_key: str, recipe: str) -> Surrogate:
        """Learn from the evaluations of a store that were made on one task by one recipe; a graph counts once.

        Raises:
            EvaluationError: If there are fewer than `LEAST` networks.
        """
        return cls(*training_rows(records, task_key=task_key, recipe=recipe, cache={}))

    def predict(self, rows: Sequence[Mapping[str, float]]) -> list[Prediction]:
        """What is expected of networks with these features."""
        means, stds = self._fit.predict(_matrix(rows, self.names))
        halves = self._quantile * stds
        return [
            Prediction(float(m), float(s), (float(m - h), float(m + h)))
            for m, s, h in zip(means, stds, halves, strict=True)
        ]

    @property
    def fingerprint(self) -> str:
        """Hash of everything that decides predictions."""
        fit = self._fit
        text = json.dumps([self.names, fit.mean, fit.size, fit.noise, self._quantile])
        digest = hashlib.blake2b(text.encode(), digest_size=16)
        for array in (fit.shift, fit.scale, fit.weights, fit.covariance):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


class _Fit:
    """Ridge regression on standardized columns."""

    def __init__(self, x: Array, y: Array) -> None:
        self.shift, spread = x.mean(axis=0), x.std(axis=0)
        self.scale = np.where(spread > 1e-9, spread, np.inf)  # what never changes tells nothing
        self.mean, self.size = float(y.mean()), float(y.std()) or 1.0
        self.weights, self.covariance, self.noise = _evidence(
            (x - self.shift) / self.scale, (y - self.mean) / self.size
        )
        self.n = len(y)

    def predict(self, x: Array) -> tuple[Array, Array]:
        """Means and standard deviations."""
        x = (x - self.shift) / self.scale
        spread = np.einsum("ni,ij,nj->n", x, self.covariance, x)
        return self.mean + self.size * (x @ self.weights), self.size * np.sqrt(self.noise * (1 + 1 / self.n) + spread)


def _conformal(x: Array, y: Array, confidence: float = 0.9) -> float:
    """Multiple of the standard deviation that the errors on parts left out stay below in 90 % of cases."""
    part = np.arange(len(y)) % min(FOLDS, len(y))
    ratios = np.empty(len(y))
    for k in range(part.max() + 1):
        means, stds = _Fit(x[part != k], y[part != k]).predict(x[part == k])
        ratios[part == k] = np.abs(y[part == k] - means) / stds
    rank = min(math.ceil(confidence * (len(y) + 1)), len(y))
    return float(np.sort(ratios)[rank - 1])


def training_rows(
    records: Iterable[Record], *, task_key: str, recipe: str, cache: dict[str, dict[str, float]]
) -> tuple[list[dict[str, float]], list[float]]:
    """Features and mean accuracies of the graphs that were evaluated on one task by one recipe.

    Args:
        cache: Features by graph key, filled on the way.
    """
    found: dict[str, list[float]] = {}
    for record in records:
        if record.status != "ok" or record.accuracy is None or (record.task_key, record.recipe) != (task_key, recipe):
            continue
        if record.graph_key not in cache:
            cache[record.graph_key] = graph_features(Graph.from_json(json.loads(record.graph)))
        found.setdefault(record.graph_key, []).append(record.accuracy)
    keys = sorted(found)
    return [cache[key] for key in keys], [float(np.mean(found[key])) for key in keys]


def _matrix(rows: Sequence[Mapping[str, float]], names: Sequence[str]) -> Array:
    return np.array([[row[name] for name in names] for row in rows], dtype=np.float64).reshape(len(rows), len(names))


def _evidence(x: Array, y: Array) -> tuple[Array, Array, float]:
    """Weights, their covariance and the variance of the noise that make the data most likely."""
    n = len(y)
    values, vectors = np.linalg.eigh(x.T @ x)
    values = np.maximum(values, 0.0)
    projected = vectors.T @ (x.T @ y)
    prior, noise = 1.0, 0.5
    for _ in range(ROUNDS):
        mean = projected / (values + prior * noise)
        effective = float((values / (values + prior * noise)).sum())
        left = float(((y - x @ (vectors @ mean)) ** 2).sum())
        new_prior = max(effective, 1e-9) / max(float((mean**2).sum()), 1e-9)
        new_noise = max(left, 1e-9) / max(n - 1 - effective, 1.0)
        moved = abs(math.log(new_prior / prior)) + abs(math.log(new_noise / noise))
        prior, noise = min(new_prior, 1e9), new_noise
        if moved < TOLERANCE:
            break
    weights = vectors @ (projected / (values + prior * noise))
    covariance = (vectors * (noise / (values + prior * noise))) @ vectors.T
    return weights, covariance, noise
