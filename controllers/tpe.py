"""Bayesian optimization by tree-structured Parzen estimators, with Optuna."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from rlnas.controllers.changes import next_action
from rlnas.controllers.search import Masks, Played, SearchController
from rlnas.errors import ConfigError

if TYPE_CHECKING:
    from optuna import Study, Trial

ESTIMATORS: Final = 256
"""Estimators kept; those unused for longest are dropped, and made again from the episodes if they are needed."""
ACTION: Final = "action"

Legal = tuple[int, ...]


class TPE(SearchController):
    """Chooses each action by an estimator of how episodes with it at that step ended.

    A step's action is a categorical parameter over what is legal there. Where other actions are legal it is another
    parameter, which knows of all episodes that took one of its actions at that step: so what is suggested is always
    legal, and what was learnt before a different start of an episode is not lost.

    Args:
        env: Episodes in lock-step. Those of one batch are chosen without knowing of each other.
        seed: Only source of randomness.
        n_startup_trials: Episodes that a parameter must know of before it is not random any more.
        n_ei_candidates: Actions drawn from the estimator of good ones, of which the most promising is taken. With many
            more than there are legal actions the same one is taken again and again.

    Attributes:
        best: The best episode so far; None before the first batch.

    Raises:
        ConfigError: If Optuna is not installed, or a number is less than 1.

    References:
        Bergstra et al., Algorithms for Hyper-Parameter Optimization, NIPS 2011.
        Akiba et al., Optuna: A Next-generation Hyperparameter Optimization Framework, KDD 2019, arXiv:1907.10902.
    """

    name: ClassVar[str] = "tpe"
    best: Played | None
    _played: list[Played]
    _studies: OrderedDict[tuple[int, Legal], tuple[Study, int]]  # with how many of the episodes it has seen
    _asked: list[tuple[Study, Trial]]

    def __init__(self, env: VecEnv, *, seed: int, n_startup_trials: int = 10, n_ei_candidates: int = 2) -> None:
        if n_startup_trials < 1 or n_ei_candidates < 1:
            raise ConfigError(f"{n_startup_trials=} and {n_ei_candidates=} must be at least 1")
        try:
            import optuna
        except ImportError:
            raise ConfigError("the controller tpe needs Optuna: pip install 'rlnas[tpe]'") from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # it reports every study
        self.n_startup_trials, self.n_ei_candidates = n_startup_trials, n_ei_candidates
        self.arguments = {"seed": seed, "n_startup_trials": n_startup_trials, "n_ei_candidates": n_ei_candidates}
        self._forget()
        super().__init__(env, seed=seed)

    def choose(self, masks: Masks, step: int) -> NDArray[np.int64]:
        """The estimator's suggestion for each episode."""
        return np.array([self._suggest(step, tuple(np.flatnonzero(mask).tolist())) for mask in masks])

    def end_batch(self, episodes: Sequence[Played]) -> None:
        """Remember what the episodes were worth."""
        from optuna.trial import TrialState

        for study, trial in self._asked:  # they have kept others from the same; the episodes are told instead
            study.tell(trial, state=TrialState.FAIL)
        self._asked = []
        self._played += episodes
        self.best = max(self._played, key=lambda episode: episode.value)

    def follow(self, mask: Masks, step: int) -> int:
        """The best episode's action."""
        return next_action(self.best.edits if self.best is not None else (), step, mask, self.generator)

    def start_changed(self) -> None:
        """Forget all episodes: they were about the former start network."""
        self._forget()

    def state(self) -> dict[str, Any]:
        """The generator and the episodes."""
        sets: dict[Legal, int] = {}
        played = [
            (list(e.actions), [sets.setdefault(legal, len(sets)) for legal in e.legal], e.value) for e in self._played
        ]
        return super().state() | {"legal": [list(legal) for legal in sets], "played": played}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what `state` gave."""
        super().restore(state)
        sets = [tuple(map(int, legal)) for legal in state["legal"]]
        rows = ((actions, tuple(sets[i] for i in legal), float(value)) for actions, legal, value in state["played"])
        self._played = [Played(tuple(map(int, actions)), legal, value) for actions, legal, value in rows]
        self.best = max(self._played, key=lambda episode: episode.value, default=None)

    def _forget(self) -> None:
        self.best, self._played, self._studies, self._asked = None, [], OrderedDict(), []

    def _suggest(self, step: int, legal: Legal) -> int:
        if len(legal) == 1:
            return legal[0]
        from optuna.samplers import TPESampler

        study = self._study(step, legal)
        seed = int(self.generator.integers(2**31))  # from the generator that checkpoints hold
        study.sampler = TPESampler(
            seed=seed, n_startup_trials=self.n_startup_trials, n_ei_candidates=self.n_ei_candidates
        )
        trial = study.ask()
        action = int(trial.suggest_categorical(ACTION, legal))
        self._asked.append((study, trial))
        return action

    def _study(self, step: int, legal: Legal) -> Study:
        """The episodes that took one of these actions at that step, as trials."""
        import optuna
        from optuna.distributions import BaseDistribution, CategoricalDistribution
        from optuna.trial import create_trial

        study, seen = self._studies.pop((step, legal), (None, 0))
        study = optuna.create_study(direction="maximize") if study is None else study
        known = frozenset(legal)
        distributions: dict[str, BaseDistribution] = {ACTION: CategoricalDistribution(legal)}
        for episode in self._played[seen:]:
            action = episode.actions[step]
            if action in known:
                params = {ACTION: action}
                study.add_trial(create_trial(params=params, distributions=distributions, value=episode.value))
        self._studies[step, legal] = study, len(self._played)
        if len(self._studies) > ESTIMATORS:
            self._studies.popitem(last=False)
        return study
