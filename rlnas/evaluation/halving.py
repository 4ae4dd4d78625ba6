"""Successive halving: many networks are trained a little, the best of them longer, a few to the end."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from rlnas.errors import ConfigError
from rlnas.evaluation.layers import Grouped, Layer, full, known
from rlnas.evaluation.metrics import Candidate, Evaluation, Metrics
from rlnas.evaluation.service import OnResult, Service
from rlnas.evaluation.training import TrainingEvaluator
from rlnas.graph import Graph
from rlnas.network import Network


def accuracy(metrics: Metrics) -> float:
    """The accuracy; worse than any where none was measured."""
    return -math.inf if metrics.accuracy is None else metrics.accuracy


class Halving(Layer):
    """Evaluates a batch in rounds of growing length, each but the last of which lets one in ``eta`` go on.

    Every round trains from the inherited weights anew with a schedule of its own, so that its result is the same
    evaluation that a search of just that length would store: nothing depends on what was interrupted when. A network
    that stopped early has the accuracy of its round; its metrics say so in ``epochs``.

    Args:
        rungs: Services of the rounds, the shortest training first; the last one trains to the end.
        eta: Of so many networks in a round, one goes on (at least one of the batch).

    Attributes:
        value: What decides who goes on; may be set later, for example to a reward.

    Raises:
        ConfigError: If there is a single round, or ``eta`` is not above 1.

    References:
        Jamieson, Talwalkar, Non-stochastic Best Arm Identification and Hyperparameter Optimization, AISTATS 2016,
        arXiv:1502.07943.
        Li et al., Hyperband, JMLR 18, 2018, arXiv:1603.06560.
    """

    def __init__(
        self, rungs: Sequence[Service], *, eta: float = 3.0, value: Callable[[Metrics], float] = accuracy
    ) -> None:
        if len(rungs) < 2:
            raise ConfigError("successive halving needs at least two rounds")
        if not 1 < eta < math.inf:
            raise ConfigError(f"eta={eta} must be above 1: of so many networks one goes on")
        super().__init__(rungs[-1])
        self.rungs = tuple(rungs)
        self.eta = eta
        self.value = value

    @classmethod
    def of_epochs(cls, service: Service, *, rounds: int = 3, eta: float = 3.0) -> Halving:
        """Rounds of a training service: the last is its own, each one before is ``eta`` times shorter.

        Raises:
            ConfigError: If the service's evaluator trains for no number of epochs.
        """
        evaluator = service.evaluator
        if not isinstance(evaluator, TrainingEvaluator):
            raise ConfigError("successive halving shortens trainings, and this evaluator does not train")
        shorter = [replace(evaluator, epochs=evaluator.epochs / eta**k) for k in range(rounds - 1, 0, -1)]
        return cls([*(service.with_evaluator(one) for one in shorter), service], eta=eta)

    def evaluate(
        self, candidates: Sequence[Candidate], *, seed: int | Sequence[int], on_result: OnResult | None = None
    ) -> list[Evaluation]:
        """Evaluate a batch in rounds; see `Service.evaluate`."""
        batch = Grouped(self.full, candidates, seed)
        left = list(batch.requests)
        for number, service in enumerate(self.rungs, 1):
            found = dict(zip(left, batch.ask(service, left), strict=True))
            worth = {key: self.value(e.metrics) for key, e in found.items() if e.metrics is not None}
            # Ties go by the graph, not by the place in the batch.
            best = sorted(worth, key=lambda key: (-worth[key], batch.requests[key][0].graph.key, key))
            on = set(best[: max(1, int(len(found) / self.eta))]) if number < len(self.rungs) else set()
            for key in left:
                if key not in on:
                    batch.answer(key, found[key], on_result)
            left = [key for key in left if key in on]
            if not left:
                break
        return batch.answers()

    def known(self, candidate: Candidate, *, seed: int) -> bool:
        """Whether its first round is done."""
        return known(self.rungs[0], candidate, seed=seed)

    @property
    def deterministic(self) -> bool:
        """True if all rounds are."""
        return all(service.evaluator.deterministic for service in self.rungs)

    def work(self, graph: Graph) -> float:
        """The work of each round for the share of the candidates that it sees."""
        return sum(service.evaluator.work(graph) / self.eta**k for k, service in enumerate(self.rungs))

    def retrain(self, candidate: Candidate, *, seed: int) -> Evaluation:
        """Train once more as long as it has been trained; see `Service.retrain`."""
        done = [service for service in self.rungs if known(service, candidate, seed=seed)]
        return (done or [full(self)])[-1].retrain(candidate, seed=seed)

    def trained(self, cache_key: str) -> Network | None:
        """See `Service.trained`."""
        return next((net for s in self.rungs if (net := s.trained(cache_key)) is not None), None)
