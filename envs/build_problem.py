"""Building as a problem: a space of decisions that make networks, the service that evaluates them, and the reward."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rlnas.envs.decision_episodes import BuildEpisode, EditEpisode, Rules
from rlnas.envs.network_problem import NetworkProblem
from rlnas.envs.protocols import Outcome
from rlnas.errors import ConfigError, EvaluationError, SpaceError
from rlnas.evaluation import Candidate, Evaluation, Service, full
from rlnas.evaluation.metrics import Tunable, evaluator_of
from rlnas.graph import Graph
from rlnas.spaces import (
    Assignment,
    BuildSpace,
    Choice,
    Limits,
    LimitSetting,
    Maker,
    NetworkSpace,
    make_maker,
    training_decisions,
)
from rlnas.tasks import Task


class BuildProblem(NetworkProblem):
    """Networks that decisions make, each evaluated from fresh weights; see `NetworkProblem`.

    The start network of rewards is the reference network of the space, evaluated in the same way. Hyper-parameters of
    training that are decided are part of the recipe of an evaluation.

    Args:
        space: Decisions, reference network and limits.
        **arguments: Those of `NetworkProblem`.

    Raises:
        ConfigError: If hyper-parameters are decided that the evaluator does not have, or there should be a control.
    """

    space: BuildSpace

    def __init__(self, *, space: BuildSpace, **arguments: Any) -> None:
        super().__init__(space=space, **arguments)
        if self._control:
            raise ConfigError("control=true trains the start network on, and here every network has fresh weights")
        begin = () if space.form == "build" else space.networks.reference
        self.rules = Rules(space.within, space.max_steps, begin)
        self._check_training(full(self.service))

    @property
    def origin(self) -> str:
        """Hash of the decisions, the limits and where episodes begin."""
        space, networks = self.space, self.space.networks
        words = [(d.name, d.choices) for d in networks.decisions.decisions]
        parts = [
            space.form,
            words,
            self.rules.start,
            space.max_steps,
            space.enforce,
            str(space.limits),
            space.start.key,
        ]
        return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()

    def begin(self) -> BuildEpisode | EditEpisode:
        """An episode with nothing decided, or at the reference network."""
        return BuildEpisode(self.rules) if self.space.form == "build" else EditEpisode(self.rules)

    def candidate(self, episode: BuildEpisode | EditEpisode) -> Candidate:
        """The network that an episode decided on, which must be whole."""
        return self.candidate_at(episode.assignment)

    def candidate_at(self, assignment: Assignment) -> Candidate:
        """The network of a whole assignment."""
        settings = self.space.networks.settings(assignment)
        graph = self.space.networks.graph(assignment)
        return Candidate(graph, self.first_start_id, fresh=True, training=tuple(sorted(settings.items())))

    def candidate_of(self, record: Mapping[str, Any]) -> Candidate:
        """The network that the record of an evaluation describes.

        Raises:
            SpaceError: If its choices are not those of this space.
        """
        return self.candidate_at(self.space.networks.decisions.from_choices(record["choices"]))

    @property
    def start_candidate(self) -> Candidate:
        """The reference network, as a candidate."""
        return self.candidate_at(self.space.networks.reference)

    def made(self, episode: BuildEpisode | EditEpisode) -> dict[str, Any]:
        """What was chosen, by decision and in words."""
        choices = self.space.networks.decisions.choices(episode.assignment)
        training = {name: choice for name, choice in choices.items() if name in self.space.networks.hyper_parameters}
        words = [f"{name}={choice}" for name, choice in choices.items()]
        return {"operators": words, "edits": [], "choices": choices, "training": training}

    def standing(self, episode: BuildEpisode | EditEpisode) -> tuple[Candidate, Candidate] | None:
        """The network of what is decided, what is open as in the reference network; and that."""
        reference, chosen = self.space.networks.reference, episode.assignment
        whole = (*chosen, *reference[len(chosen) :])
        return None if whole == reference else (self.candidate_at(whole), self.start_candidate)

    def _outcome(
        self, episode: BuildEpisode | EditEpisode, evaluation: Evaluation | None, seed: int, start_id: str
    ) -> Outcome:
        if episode.graph is not None:
            return super()._outcome(episode, evaluation, seed, start_id)
        missing = len(self.space.networks.decisions) - len(episode.assignment)
        return self._unmade(episode, f"illegal actions left {missing} decisions open", seed, start_id)

    def _check_training(self, service: Service) -> None:
        """Raise if what is decided of training means nothing to the evaluator."""
        networks = self.space.networks
        if not networks.training:
            return
        if not isinstance(service.evaluator, Tunable):
            raise ConfigError("training=... decides on hyper-parameters of training, and this evaluator does not train")
        for decision in networks.training:
            for choice in decision.choices:
                try:
                    evaluator_of(
                        service.evaluator, Candidate(self.space.start, "", training=((decision.name, choice),))
                    )
                except (ConfigError, EvaluationError, TypeError, ValueError) as error:
                    raise SpaceError(f"training: {decision.name}={choice!r} cannot be chosen: {error}") from None


def make_networks(
    task: Task,
    *,
    space: str | Callable[..., Maker],
    form: str = "build",
    start: Mapping[str, Choice] | None = None,
    training: Sequence[str] | Mapping[str, Iterable[Choice]] = (),
    max_steps: int | None = None,
    enforce: str = "mask",
    max_macs: LimitSetting = None,
    max_params: LimitSetting = None,
    max_predicted_ms: LimitSetting = None,
    max_memory_bytes: LimitSetting = None,
    min_macs: LimitSetting = None,
    min_params: LimitSetting = None,
    min_predicted_ms: LimitSetting = None,
    min_memory_bytes: LimitSetting = None,
    predict: Callable[[Graph], float] | None = None,
    usual: Mapping[str, Choice] | None = None,
    **sizes: Any,
) -> BuildSpace:
    """A space of decisions that make networks for a task.

    Args:
        space: Name of a maker, one of `rlnas.spaces.MAKERS`, or a maker of your own.
        form: ``"build"`` takes one decision after the other, ``"edit"`` changes those of the reference network.
        start: Choices of the reference network, by decision, in the place of the usual ones.
        training: Hyper-parameters of training that are decided too: their names, or their choices by name.
        max_steps: Changes in an episode of the form ``"edit"``; by default as many as there are decisions.
        enforce: What is done about limits: ``"mask"``, ``"reject"`` or ``"penalty"``; see `MorphSpace`.
        max_macs: Limit on multiply-accumulates: a number, ``"4x"`` the reference network's, or ``"60%"`` of it.
        max_params: Limit on parameters, in the same forms, like all that follow.
        max_predicted_ms: Limit on the latency that ``predict`` gives.
        max_memory_bytes: Limit on the activations alive at once for one sample.
        min_macs: Lower limit on multiply-accumulates.
        min_params: On parameters.
        min_predicted_ms: On predicted latency.
        min_memory_bytes: On activations.
        predict: Latency of an architecture in milliseconds.
        usual: Hyper-parameters of training where nothing is decided; the reference network's, if they can be chosen.
        **sizes: Arguments of the maker.

    Raises:
        ConfigError: If a name or a setting is not known.
        LimitError: If no network of the space is known to keep the limits.
        SpaceError: If an argument or a choice does not fit the space.
    """
    maker = make_maker(space, input_shape=task.input_shape, n_classes=task.n_classes, arguments=sizes)
    networks = NetworkSpace(maker, training=training_decisions(training, usual=usual or {}), start=start)
    limits = Limits.resolve(
        networks.graph(networks.reference),
        predict=predict,
        max_params=max_params,
        max_macs=max_macs,
        max_predicted_ms=max_predicted_ms,
        max_memory_bytes=max_memory_bytes,
        min_params=min_params,
        min_macs=min_macs,
        min_predicted_ms=min_predicted_ms,
        min_memory_bytes=min_memory_bytes,
    )
    if max_steps is not None and max_steps < 1:
        raise ConfigError(f"max_steps={max_steps}; an episode needs at least 1 change")
    return BuildSpace(networks, limits, form=form, max_steps=max_steps or 0, enforce=enforce)
