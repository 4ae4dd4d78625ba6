"""Imagination: a learner trained on imagined episodes, whose most promising ones are evaluated.

The environment plays episodes without evaluating them; a surrogate, fitted to what was evaluated, says what they would
earn. A policy learns from many of these, and of all that it imagined the best are played for real.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from torch import Tensor

from rlnas.controllers.arguments import check_arguments
from rlnas.controllers.base import check_positive, episode_steps
from rlnas.controllers.policies import SlotPolicy
from rlnas.controllers.ppo import PPO
from rlnas.controllers.pretraining import Labels, imagined
from rlnas.controllers.reinforce import Reinforce
from rlnas.controllers.search import Masks, Played, SearchController
from rlnas.controllers.surrogate import Points, Surrogate
from rlnas.errors import ConfigError, unknown_name
from rlnas.layout import STOP

LEARNERS: Final[dict[str, type[PPO] | type[Reinforce]]] = {"ppo": PPO, "reinforce": Reinforce}
"""What can learn from imagined episodes, by name."""

DEFAULTS: Final[dict[str, dict[str, Any]]] = {
    "ppo": {"learning_rate": 1e-2, "n_epochs": 2, "ent_coef": 0.02, "vf_coef": 0.5},
    "reinforce": {"learning_rate": 2e-2, "ent_coef": 0.02, "initial_baseline": 0.0, "initial_deviation": 1.0},
}
"""Arguments of learners where imagined rewards are normal scores and episodes cost nothing."""

BEST: Final = 10

Candidate = tuple[tuple[int, ...], dict[str, Any]]
"""Actions and features of an imagined episode."""


class ImaginedRewards(VecEnvWrapper):
    """Pays imagined episodes what a surrogate expects, and keeps them.

    Args:
        venv: Plays episodes without evaluating them; ``infos`` of their last step have ``actions``, ``key`` and
            ``features``.
        names: Figures that the surrogate reads.
        optimism: Standard deviations that are added to what is expected.

    Attributes:
        surrogate: Expects; before the first all episodes earn 0.
        candidates: Actions and features by key.
        known: Keys of ends that are evaluated already. To reach them once more earns no more than 0, a usual score.
    """

    def __init__(self, venv: VecEnv, *, optimism: float) -> None:
        super().__init__(venv)
        self.optimism = optimism
        self.surrogate: Surrogate | None = None
        self.names: tuple[str, ...] = ()
        self.candidates: dict[str, Candidate] = {}
        self.known: set[str] = set()

    def reset(self) -> Any:
        """Begin new episodes."""
        return self.venv.reset()

    def step_wait(self) -> tuple[Any, NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """A step; the last one is paid."""
        observations, rewards, dones, infos = self.venv.step_wait()
        ended = np.flatnonzero(dones)
        if len(ended):
            for i in ended:
                info = infos[i]
                self.candidates.setdefault(info["key"], (tuple(map(int, info["actions"])), info["features"]))
            if self.surrogate is not None:
                points = Points.of([infos[i]["features"] for i in ended], names=self.names)
                means, deviations = self.surrogate.predict(points)
                known = np.array([infos[i]["key"] in self.known for i in ended])
                rewards = rewards.copy()
                rewards[ended] = np.where(known, np.minimum(means, 0.0), means + self.optimism * deviations)
        return observations, rewards, dones, infos


class Imagination(SearchController):
    """Trains a policy on imagined episodes and plays the most promising ones for real.

    Before each batch a surrogate is fitted to all rewards so far, a learner is trained on imagined rollouts, and of all
    episodes imagined then or kept from before, distinct and not evaluated yet, as many as the batch has are played.
    Each of these is the best by a draw of its own from what the surrogate holds possible, so that a batch is diverse.
    The first batch, without labels from elsewhere, is drawn at random from what the untrained policy imagines.

    Args:
        env: Episodes in lock-step, with a method ``imagined`` that gives the same ones without evaluation.
        seed: Of the policy, its samples and the draws.
        learner: ``ppo`` or ``reinforce``.
        learner_arguments: Its further arguments.
        n_rollouts: Imagined rollouts before each batch.
        n_imagined: Episodes in one of them.
        n_neighbours: Further rollouts, of episodes that differ in one action from one of the best `BEST` evaluated.
        exploration: Standard deviations of the draws, in those of the surrogate.
        optimism: Standard deviations that imagined rewards are above what is expected.
        first: Rewards needed before the surrogate is trusted.
        pool: Imagined episodes that are kept for later batches.
        labels: File of rewards from elsewhere, see `rlnas.controllers.pretraining`; the surrogate begins with what
            they say, and learns how this environment differs.

    Attributes:
        learner: The learner, whose environment is imagined.

    Raises:
        ConfigError: If an argument is out of range, or the environment cannot be imagined.

    References:
        Sutton, Dyna, an Integrated Architecture for Learning, Planning, and Reacting, SIGART Bulletin 2, 1991.
        Angermueller et al., Model-based Reinforcement Learning for Biological Sequence Design, ICLR 2020.
    """

    name: ClassVar[str] = "imagination"

    def __init__(
        self,
        env: VecEnv,
        *,
        seed: int,
        learner: str = "ppo",
        learner_arguments: dict[str, Any] | None = None,
        n_rollouts: int = 2,
        n_imagined: int = 48,
        n_neighbours: int = 1,
        exploration: float = 0.4,
        optimism: float = 0.5,
        first: int = 10,
        pool: int = 512,
        labels: str | None = None,
    ) -> None:
        self.arguments = {k: v for k, v in locals().items() if k not in ("self", "env", "__class__")}
        check_positive(n_rollouts=n_rollouts, n_imagined=n_imagined, first=first, pool=pool)
        if min(exploration, optimism, n_neighbours) < 0:
            raise ConfigError(
                f"exploration={exploration}, optimism={optimism} and n_neighbours={n_neighbours} must not be negative"
            )
        if learner not in LEARNERS:
            raise ConfigError(unknown_name("learner", learner, LEARNERS))
        episode_steps(env)
        given = learner_arguments or {}
        check_arguments(LEARNERS[learner], given, of=f"the learner {learner!r}", reserved=("env", "seed"))
        if (given.get("memory") or {}).get("exploit_after") is not None:
            raise ConfigError("exploit_after is not for a learner of imagination: what it imagines has no last part")
        if given.get("without_replacement"):
            raise ConfigError("without_replacement is not for a learner of imagination, which evaluates nothing twice")
        reserved = ("observation_space", "action_space", "lr_schedule", "use_sde", "critic")
        check_arguments(SlotPolicy, given.get("policy_kwargs") or {}, of="policy_kwargs", reserved=reserved)
        self.exploration, self.first, self.pool = exploration, first, pool
        self.n_rollouts, self.n_neighbours = n_rollouts, n_neighbours
        self.labels = None if labels is None else Labels.load(labels)
        self._rows: list[dict[str, Any]] = []  # what was evaluated: key, actions, features, reward
        self._asked: dict[tuple[int, ...], tuple[str, dict[str, Any]]] = {}  # by actions: what is in evaluation
        self._plans: list[tuple[int, ...]] = []
        self._worths: dict[tuple[int, ...], float] = {}
        self._imagined = ImaginedRewards(imagined(env, n_imagined), optimism=optimism)
        super().__init__(env, seed=seed)
        self.learner = LEARNERS[learner](self._imagined, seed=seed, **{**DEFAULTS[learner], **given})
        self.learner.set_logger(Logger(None, []))
        self.policy = self.learner.policy

    def begin_batch(self) -> None:
        """Fit the surrogate, imagine, and choose what to play."""
        self._imagined.surrogate = self._fit()
        self._imagined.known = {row["key"] for row in self._rows} | {key for key, _ in self._asked.values()}
        if self._imagined.surrogate is None:
            self._imagine_freely()
        else:
            steps = self.n_rollouts * self.max_steps * self._imagined.num_envs
            self.learner.learn(steps, reset_num_timesteps=False)
        for _ in range(self.n_neighbours):
            self._imagine_neighbours()
        self._plans = self._choose_plans()

    def choose(self, masks: Masks, step: int) -> NDArray[np.int64]:
        """The planned actions."""
        planned = [plan[step] if step < len(plan) else STOP for plan in self._plans]
        pairs = zip(planned, masks, strict=True)
        return np.array([action if mask[action] else self.random_action(mask) for action, mask in pairs])

    def end_batch(self, episodes: Sequence[Played]) -> None:
        """Remember what the episodes earned."""
        found = []
        for episode in episodes:
            asked = self._asked.pop(episode.actions, None)
            if asked is not None:
                key, features = asked
                reward = self._worths.get(episode.actions, episode.value)
                row = {"key": key, "actions": list(episode.actions), "features": features, "reward": reward}
                self._rows.append(row)
                found.append((features, reward))
        self._worths = {}
        self._record(found)

    def follow(self, mask: Masks, step: int) -> int:
        """The action of the best episode."""
        if not self._rows:
            return self.random_action(mask)
        best = max(self._rows, key=lambda row: float(row["reward"]))["actions"]
        action = best[step] if step < len(best) else STOP
        return int(action) if mask[action] else self.random_action(mask)

    def start_changed(self) -> None:
        """Keep what was learned of networks, and forget how they were made from the former start."""
        self._imagined.candidates, self._asked = {}, {}
        self.learner.start_changed()
        for row in self._rows:
            row["actions"] = []

    def state(self) -> dict[str, Any]:
        """The generator, what was evaluated and imagined, and the learner's own state."""
        return super().state() | {
            "rows": self._rows,
            "asked": [[list(actions), key, features] for actions, (key, features) in self._asked.items()],
            "candidates": [[k, list(a), features] for k, (a, features) in self._imagined.candidates.items()],
            "learner": self.learner.state(),
            "learner_timesteps": self.learner.num_timesteps,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what `state` gave."""
        super().restore(state)
        self._rows = list(state["rows"])
        self._asked = {tuple(actions): (key, features) for actions, key, features in state["asked"]}
        self._imagined.candidates = {k: (tuple(actions), features) for k, actions, features in state["candidates"]}
        self.learner.restore(state["learner"])
        self.learner.num_timesteps = int(state["learner_timesteps"])

    def tensors(self) -> dict[str, Tensor]:
        """The learner's memory."""
        return self.learner.tensors()

    def restore_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up the learner's memory."""
        self.learner.restore_tensors(tensors)

    def _update_info_buffer(self, infos: list[dict[str, Any]], dones: NDArray[np.bool_] | None = None) -> None:
        """Also take down what networks are worth by themselves: some rewards pay by what was found before."""
        ended = [*infos, *(info for _, _, info in infos[0].get("arrived", ()))]
        for info in ended:
            if "evaluation" in info:
                self._worths[tuple(map(int, info["actions"]))] = float(info["evaluation"]["reward"])
        super()._update_info_buffer(infos, dones)

    def _fit(self) -> Surrogate | None:
        """What the rewards so far, and the labels, let expect."""
        prior = None if self.labels is None else self.labels.surrogate
        features = [row["features"] for row in self._rows]
        if self.labels is not None:
            self._imagined.names = self.labels.names
        elif features:
            self._imagined.names = tuple(sorted(features[0]["known"]))
        if len(features) < (self.first if prior is None else 1):
            return prior
        points = Points.of(features, names=self._imagined.names)
        return Surrogate(points, [row["reward"] for row in self._rows], prior=prior)

    def _imagine_freely(self) -> None:
        """Imagine what the policy proposes; while nothing is expected of it, there is nothing to learn."""
        for _ in range(self.n_rollouts):
            now = self._imagined.reset()
            for _ in range(self.max_steps):
                now = self._imagined.step(self.learner.predict(now)[0])[0]

    def _imagine_neighbours(self) -> None:
        """Imagine the best episodes with one action changed; what that makes illegal is changed too."""
        best = sorted((row for row in self._rows if row["actions"]), key=lambda row: -float(row["reward"]))[:BEST]
        if not best:
            return
        plans = [best[i % len(best)]["actions"] for i in range(self._imagined.num_envs)]
        stops = [plan.index(STOP) + 1 if STOP in plan else len(plan) for plan in plans]
        changed = [int(self.generator.integers(stop)) for stop in stops]
        now = self._imagined.reset()
        for step in range(self.max_steps):
            taken = []
            for plan, place, mask in zip(plans, changed, now["action_mask"].astype(np.bool_), strict=True):
                others = mask.copy()
                others[plan[step]] = False
                keep = mask[plan[step]] and (place != step or not others.any())
                taken.append(plan[step] if keep else self.random_action(others))
            now, _, _, _ = self._imagined.step(np.array(taken))

    def _choose_plans(self) -> list[tuple[int, ...]]:
        """Actions for each episode of the batch: those of the most promising candidates."""
        known = self._imagined.known
        candidates = {k: c for k, c in sorted(self._imagined.candidates.items()) if k not in known}
        keys, surrogate = list(candidates), self._imagined.surrogate
        if surrogate is None or not keys:
            order = [keys[i] for i in self.generator.permutation(len(keys))]
            chosen = order[: self.n_envs]
        else:
            points = Points.of([features for _, features in candidates.values()], names=self._imagined.names)
            means, deviations = surrogate.predict(points)
            chosen = [keys[i] for i in self._draw(means, deviations)]
            order = [keys[i] for i in np.argsort(-means, kind="stable")]
        self._imagined.candidates = {key: candidates[key] for key in order[: self.pool] if key not in chosen}
        self._asked |= {candidates[key][0]: (key, candidates[key][1]) for key in chosen}
        plans = [candidates[key][0] for key in chosen]
        return plans + [self._again(i) for i in range(self.n_envs - len(plans))]

    def _draw(self, means: NDArray[np.float64], deviations: NDArray[np.float64]) -> list[int]:
        """Places of the candidates to play, each the best by a draw of its own."""
        chosen: list[int] = []
        for _ in range(min(self.n_envs, len(means))):
            drawn = means + self.exploration * deviations * self.generator.standard_normal(len(means))
            drawn[chosen] = -np.inf
            chosen.append(int(drawn.argmax()))
        return chosen

    def _again(self, place: int) -> tuple[int, ...]:
        """Actions of an episode that fills up a batch when nothing new is imagined: one of the best evaluated."""
        best = sorted((row for row in self._rows if row["actions"]), key=lambda row: -float(row["reward"]))
        return tuple(best[place % len(best)]["actions"]) if best else ()

    def _record(self, found: Sequence[tuple[dict[str, Any], float]]) -> None:
        """Log how well the surrogate knew."""
        self.logger.record("imagination/evaluated", len(self._rows))
        self.logger.record("imagination/candidates", len(self._imagined.candidates))
        surrogate = self._imagined.surrogate
        if surrogate is not None and len({reward for _, reward in found}) > 1:
            points = Points.of([features for features, _ in found], names=self._imagined.names)
            means, _ = surrogate.predict(points)
            if means.std() > 0:
                agreement = np.corrcoef(means, [reward for _, reward in found])[0, 1]
                self.logger.record("imagination/correlation", float(agreement))
