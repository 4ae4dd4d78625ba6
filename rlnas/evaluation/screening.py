"""Screening: of a batch, only those are evaluated that a cheap judgement puts first."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from typing import Protocol

from rlnas.errors import ConfigError
from rlnas.evaluation.layers import Grouped, Layer, deterministic, known, work
from rlnas.evaluation.metrics import Candidate, Evaluation
from rlnas.evaluation.scoring import ZeroCostEvaluator
from rlnas.evaluation.service import OnResult, Service
from rlnas.evaluation.zero_cost import needed_scores, standings
from rlnas.graph import Graph


class Ranker(Protocol):
    """Orders candidates without training them."""

    @property
    def name(self) -> str:
        """What orders them, in a word."""
        ...

    @property
    def recipe(self) -> str:
        """Canonical JSON of everything that decides the order, beside candidates, seeds and what is in the store."""
        ...

    @property
    def deterministic(self) -> bool:
        """True if the order depends on candidates and seeds alone; False if it also learns from the store."""
        ...

    def work(self, graph: Graph) -> float:
        """Multiply-accumulates that judging such a network takes, about."""
        ...

    def rank(self, candidates: Sequence[Candidate], *, seeds: Sequence[int]) -> list[float] | None:
        """One number a candidate, high is good, to be compared within this batch; None if it cannot tell yet."""
        ...


class ScoreRanker:
    """Orders candidates by a zero-cost score, or by a vote of several.

    Args:
        service: Whose store and processes are used.
        score: Name out of `rlnas.evaluation.zero_cost.SCORES` and `VOTES`.
        batch_size: Training inputs to look at.

    Raises:
        ConfigError: If the score is not known.
    """

    def __init__(self, service: Service, score: str, *, batch_size: int = 64) -> None:
        self.name = score
        self._evaluator = ZeroCostEvaluator(service.task, scores=(score,), batch_size=batch_size)
        self._service = service.with_evaluator(self._evaluator, measure=False)

    @property
    def recipe(self) -> str:
        """Canonical JSON of the score and how it is computed."""
        return json.dumps({"score": self.name, "evaluator": json.loads(self._evaluator.recipe)}, sort_keys=True)

    @property
    def deterministic(self) -> bool:
        """True if the scores are."""
        return self._evaluator.deterministic

    def work(self, graph: Graph) -> float:
        """Multiply-accumulates of the scores' passes."""
        return self._evaluator.work(graph)

    def rank(self, candidates: Sequence[Candidate], *, seeds: Sequence[int]) -> list[float]:
        """Score candidates, which the store remembers, and order them."""
        found = self._service.evaluate(candidates, seed=seeds)
        names = needed_scores([self.name])
        rows = [None if e.metrics is None else {n: e.metrics.scores[n] for n in names} for e in found]
        return standings(self.name, rows)


class Screen(Layer):
    """Lets the first of each batch through, by a ranker's order; the others are answered with status ``screened``.

    What has been evaluated before always passes. Each decision is noted in the store before anything is trained, so
    that a batch that was interrupted is decided in the same way when it comes again.

    Args:
        inner: What evaluates those that pass.
        ranker: Orders a batch.
        keep: Share of the candidates not known before that pass, at least one.

    Raises:
        ConfigError: If ``keep`` is not above 0 and below 1.
    """

    def __init__(self, inner: Service | Layer, ranker: Ranker, *, keep: float = 0.5) -> None:
        if not 0 < keep < 1:
            raise ConfigError(f"keep={keep} must be above 0 and below 1: the share that is evaluated")
        super().__init__(inner)
        self.ranker = ranker
        self.keep = keep

    def evaluate(
        self, candidates: Sequence[Candidate], *, seed: int | Sequence[int], on_result: OnResult | None = None
    ) -> list[Evaluation]:
        """Order a batch and evaluate the first; see `Service.evaluate`."""
        batch = Grouped(self.full, candidates, seed)
        keys = list(batch.requests)
        passed = self._decide(batch, keys)
        going = [key for key in keys if key in passed]
        for key in keys:
            if key not in passed:
                reason = f"screened out: {self.ranker.name} lets {len(going)} of {len(keys)} networks pass"
                batch.answer(key, Evaluation(None, "screened", reason, cache_key=key), on_result)
        if going:
            batch.ask(
                self.inner,
                going,
                on_result=lambda index, evaluation: batch.answer(going[index], evaluation, on_result),
            )
        return batch.answers()

    def known(self, candidate: Candidate, *, seed: int) -> bool:
        """Whether what it passes candidates on to knows it."""
        return known(self.inner, candidate, seed=seed)

    @property
    def deterministic(self) -> bool:
        """True if the ranker and what evaluates are."""
        return self.ranker.deterministic and deterministic(self.inner)

    def work(self, graph: Graph) -> float:
        """The ranker's work, and that of evaluating the share that passes."""
        return self.ranker.work(graph) + self.keep * work(self.inner, graph)

    def _decide(self, batch: Grouped, keys: Sequence[str]) -> set[str]:
        parts = json.dumps([self.ranker.recipe, self.keep, sorted(keys)])
        note = f"screen {hashlib.blake2b(parts.encode(), digest_size=16).hexdigest()}"
        decided = self.store.note(note)
        if decided is None:
            decided = json.dumps(sorted(self._order(batch, keys)))
            self.store.set_note(note, decided)
        return set(json.loads(decided))

    def _order(self, batch: Grouped, keys: Sequence[str]) -> list[str]:
        """Keys of those that pass."""
        free = [key for key in keys if known(self.inner, batch.requests[key][0], seed=batch.requests[key][1])]
        new = [key for key in keys if key not in free]
        if not new:
            return free
        requests = [batch.requests[key] for key in new]
        found = self.ranker.rank([c for c, _ in requests], seeds=[s for _, s in requests])
        if found is None:
            return [*free, *new]
        worth = dict(zip(new, found, strict=True))
        best = sorted(new, key=lambda key: (-worth[key], batch.requests[key][0].graph.key, key))
        return [*free, *best[: math.ceil(self.keep * len(new))]]
