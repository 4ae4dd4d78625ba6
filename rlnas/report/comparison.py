"""Controllers against random search: what each found, the same seeds side by side, at equal evaluations and time."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

from rlnas.report.statistics import CONFIDENCE, Estimate, holm, mean_interval, sign_flip_test

FEW_NEW = 0.1
"""Share of new networks in the last quarter of a search, below which it has collapsed."""
LOW_ENTROPY = 0.05
"""Entropy in the end, as a share of that in the beginning, below which a policy has collapsed."""


@dataclass(frozen=True)
class Search:
    """One search of a comparison.

    Attributes:
        task: Label of the task.
        controller: Label of the controller.
        seed: Its seed; searches of the same task and seed belong together.
        best: Highest reward of a feasible network after each evaluation; None before the first one.
        seconds: Time since the search began when the result of each evaluation was known.
        other_s: Time of the search that was neither training nor measuring: the controller and its surroundings.
        distinct: Different networks.
        infeasible: Evaluations that broke a limit.
        failed: Evaluations that failed.
        late_new: Share of the last quarter of the evaluations that were of networks not seen before.
        sampled_accuracy: Mean accuracy of all feasible evaluations.
        entropy: Of the policy after its first and last update; None without a policy.
        reward: Of the winner, evaluated again with fresh seeds; None if it was not.
        accuracy: The winner's validation accuracy, from the same evaluations.
        test_accuracy: Of the winner after the final training.
        regret: What the best test accuracy of a table has beyond the winner's; None where it is not known.
    """

    task: str
    controller: str
    seed: int
    best: tuple[float | None, ...]
    seconds: tuple[float, ...]
    other_s: float
    distinct: int
    infeasible: int
    failed: int
    late_new: float
    sampled_accuracy: float | None = None
    entropy: tuple[float, float] | None = None
    reward: float | None = None
    accuracy: float | None = None
    test_accuracy: float | None = None
    regret: float | None = None

    @property
    def value(self) -> float | None:
        """What it is compared by: the winner's reward with fresh seeds, or the best one of the search without."""
        return self.best[-1] if self.reward is None else self.reward

    @property
    def collapsed(self) -> str | None:
        """In what it has collapsed, in words; None if it has not."""
        if self.entropy is not None and self.entropy[1] < LOW_ENTROPY * self.entropy[0]:
            return "entropy"
        return "new networks" if self.late_new < FEW_NEW else None

    def best_at(self, seconds: float) -> float | None:
        """The highest reward known at a time."""
        known = bisect.bisect_right(self.seconds, seconds)
        return self.best[known - 1] if known else None


@dataclass(frozen=True)
class Standing:
    """One controller on one task.

    Attributes:
        searches: Its searches, by seed.
        value: What they are compared by; see `Search.value`.
        gain: Its difference to random search, paired by seed; None for random search itself.
        p: Of the paired sign-flip test of that, adjusted for the number of controllers.
        improvement: Accuracy of the winner beyond that of a random network, in percent of the latter.
        at_end: Highest reward of the search, at equal evaluations.
        at_time: Highest reward at the time when the shortest search of the task had ended; None if some search had
            found nothing feasible by then.
        time_gain: Its paired difference to random search.
    """

    task: str
    controller: str
    searches: tuple[Search, ...]
    value: Estimate | None
    gain: Estimate | None
    p: float | None
    improvement: Estimate | None
    at_end: Estimate | None
    at_time: Estimate | None
    time_gain: Estimate | None

    @property
    def beats_random(self) -> bool:
        """Whether it is better than random search beyond the noise."""
        return self._clear and self.gain is not None and self.gain.mean > 0

    @property
    def behind_random(self) -> bool:
        """Whether it is worse than random search beyond the noise."""
        return self._clear and self.gain is not None and self.gain.mean < 0

    @property
    def _clear(self) -> bool:
        return self.gain is not None and self.gain.excludes_zero and self.p is not None and self.p < 1 - CONFIDENCE


@dataclass(frozen=True)
class Contest:
    """One task: all controllers, the baseline among them.

    Attributes:
        baseline: Label of random search.
        equal_s: Time at which they are compared at equal time.
    """

    task: str
    baseline: str
    equal_s: float
    standings: tuple[Standing, ...]


def contest(task: str, searches: Sequence[Search], *, baseline: str) -> Contest:
    """Compare the controllers of a task with random search.

    Args:
        searches: Those of the task, of which at least one is of the baseline.
        baseline: Label of random search.
    """
    labels = list(dict.fromkeys(search.controller for search in searches))
    by_label = {label: {s.seed: s for s in searches if s.controller == label} for label in labels}
    reference = by_label[baseline]
    equal_s = min(s.seconds[-1] for s in searches if s.seconds)
    gains = {
        label: _paired({k: s.value for k, s in own.items()}, {k: s.value for k, s in reference.items()})
        for label, own in by_label.items()
        if label != baseline
    }
    tested = [label for label, differences in gains.items() if differences]
    p_values = dict(zip(tested, holm([sign_flip_test(gains[label]) for label in tested]), strict=True))
    at_time = {label: {k: s.best_at(equal_s) for k, s in own.items()} for label, own in by_label.items()}
    standings = tuple(
        Standing(
            task=task,
            controller=label,
            searches=tuple(own[seed] for seed in sorted(own)),
            value=_mean([s.value for s in own.values()]),
            gain=_mean(gains.get(label, [])),
            p=p_values.get(label),
            improvement=_mean(_improvements(own, reference)),
            at_end=_mean([s.best[-1] for s in own.values()]),
            at_time=_whole_mean(list(at_time[label].values())),
            time_gain=None if label == baseline else _time_gain(at_time[label], at_time[baseline]),
        )
        for label, own in by_label.items()
    )
    return Contest(task, baseline, equal_s, standings)


def anytime(searches: Sequence[Search], *, seconds: Sequence[float] | None = None) -> list[tuple[float, Estimate]]:
    """Mean of the best reward so far with its interval, after each evaluation or at given times.

    Where a search has not found anything feasible yet there is no mean.
    """
    if seconds is None:
        length = min(len(s.best) for s in searches)
        columns = [(float(i + 1), [s.best[i] for s in searches]) for i in range(length)]
    else:
        columns = [(t, [s.best_at(t) for s in searches]) for t in seconds]
    found = []
    for x, values in columns:
        known = [value for value in values if value is not None]
        if len(known) == len(values):
            found.append((x, mean_interval(known)))
    return found


def _paired(own: dict[int, float | None], reference: dict[int, float | None]) -> list[float]:
    pairs = [(own[seed], reference.get(seed)) for seed in sorted(own)]
    return [a - b for a, b in pairs if a is not None and b is not None]


def _improvements(own: dict[int, Search], reference: dict[int, Search]) -> list[float]:
    """Relative improvement over random sampling, in percent, of each pair of searches.

    References:
        Yang, Esperança, Carlucci, NAS evaluation is frustratingly hard, ICLR 2020, arXiv:1912.12522.
    """
    found = []
    for seed, search in sorted(own.items()):
        random = reference[seed].sampled_accuracy if seed in reference else None
        if search.accuracy is not None and random:
            found.append(100 * (search.accuracy - random) / random)
    return found


def _time_gain(own: dict[int, float | None], reference: dict[int, float | None]) -> Estimate | None:
    return None if None in (*own.values(), *reference.values()) else _mean(_paired(own, reference))


def _whole_mean(values: Sequence[float | None]) -> Estimate | None:
    """Mean of searches all of which have found something: those that are late would else raise it."""
    return None if None in values else _mean(values)


def _mean(values: Sequence[float | None]) -> Estimate | None:
    known = [value for value in values if value is not None]
    return mean_interval(known) if known else None
