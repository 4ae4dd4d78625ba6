"""`rlnas/Morph-v0`: edit a network step by step."""

from __future__ import annotations

import json
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray

from rlnas.envs.episode import Episode
from rlnas.envs.make import make_problem
from rlnas.envs.observation import Observation
from rlnas.envs.problem import Problem
from rlnas.envs.spaces import action_space, observation_space
from rlnas.errors import SpaceError
from rlnas.graph import OPS


class MorphEnv(gym.Env[Observation, np.int64]):
    """Architecture design as editing.

    ## Description
    An episode starts from a trained network and edits it with operators that keep or nearly keep its function. When
    the episode ends, the edited network is trained briefly from its inherited weights, and the reward tells how its
    accuracy and cost compare with the start network's.

    ## Action Space
    `Discrete(1 + slots * variants)`: 0 is STOP; `1 + slot * variants + variant` applies the space's variant, an
    operator with its amount, at the node in that slot. Slots number the nodes in canonical topological order. An
    illegal action changes nothing, uses a step and sets `info["illegal_action"]`; `action_masks()` and the
    `action_mask` entry tell which are legal.

    ## Observation Space
    A flat `Dict`; see `rlnas.layout` for the meaning of each column.

    | entry | type | size |
    |---|---|---|
    | `nodes` | Box(-1, 1), float32 | slots x node features, row-major |
    | `node_mask` | Box(0, 1), float32 | slots |
    | `context` | Box(-1, 1), float32 | context features |
    | `action_mask` | MultiBinary | number of actions |

    ## Rewards
    0 until the end, then the reward of the evaluated network: by default the tangent of its validation accuracy
    relative to the start network's, times (MACs / start MACs)^-0.07. A network that fails, or lies over a limit because
    illegal actions used up the steps, gets 0.

    ## Starting State
    The start network, trained once for a problem. `reset(seed=s)` sets the seed from which later evaluations draw.

    ## Episode End
    `terminated` after STOP or `max_steps` actions; never `truncated`.

    ## Arguments
    Those of `rlnas.envs.make_problem`, or a ready `problem`; `render_mode="ansi"` makes `render()` return a table.

    ## Version History
    v0: first version.
    """

    metadata = {"render_modes": ["ansi"], "render_fps": 4}  # noqa: RUF012  (gymnasium's own form)

    def __init__(
        self, *, problem: Problem | None = None, seed: int = 0, render_mode: str | None = None, **settings: Any
    ) -> None:
        if problem is not None and settings:
            raise SpaceError(f"give either a problem or its settings, not both: {', '.join(settings)}")
        if render_mode not in (None, "ansi"):
            raise SpaceError(f"render_mode={render_mode!r} is not known; use 'ansi' or None")
        self.problem = make_problem(**settings) if problem is None else problem
        self.render_mode = render_mode
        self.observation_space: gym.Space[Any] = observation_space(self.problem.space.layout)
        self.action_space = action_space(self.problem.space.layout)
        self._evaluation_seed = seed
        self._episode = Episode(self.problem.space)

    @property
    def max_steps(self) -> int:
        """Steps in an episode at most."""
        return self.problem.space.max_steps

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self._evaluation_seed = seed
        self._episode = Episode(self.problem.space)
        return self._episode.observe(), {}

    def step(self, action: np.int64) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        over: bool = self._episode.ended
        if over:
            raise ResetNeeded("the episode has ended; call reset() first")
        legal = self._episode.step(int(action))
        info: dict[str, Any] = {"illegal_action": not legal}
        reward = 0.0
        if self._episode.ended:
            outcome = self.problem.score([self._episode], seed=self._evaluation_seed)[0]
            reward, info = outcome.reward, info | outcome.info
        return self._episode.observe(), reward, self._episode.ended, False, info

    def action_masks(self) -> NDArray[np.bool_]:
        """True where an action is legal, shape (actions,)."""
        mask = np.zeros(self.problem.space.layout.n_actions, dtype=np.bool_)
        mask[list(self._episode.legal().actions)] = True
        return mask

    def render(self) -> str | None:
        """The network as a table, one node a line."""
        if self.render_mode is None:
            return None
        graph, lines = self._episode.graph, []
        for slot, id in enumerate(graph.order):
            node, (params, macs) = graph.node(id), graph.node_costs[id]
            assert node.op in OPS
            shape = "x".join(map(str, graph.shapes[id]))
            lines.append(f"{slot:3d}  {id:<12} {node.op:<20} {shape:<12} {params:>9,} params {macs:>12,} MACs")
        return "\n".join(lines)

    def close(self) -> None:
        self.problem.close()

    # ------------------------------------------------------------------------------------- states and reproduction

    def state(self) -> str:
        """The episode as JSON: (start, seed, actions)."""
        return json.dumps(
            {
                "start": self.problem.space.start.key,
                "seed": self._evaluation_seed,
                "actions": [int(a) for a in self._episode.actions],
            }
        )

    def restore(self, state: str) -> Observation:
        """Go to a state that `state` gave; nothing is evaluated.

        Raises:
            SpaceError: If the state belongs to another start network.
        """
        data = json.loads(state)
        if data["start"] != self.problem.space.start.key:
            raise SpaceError("the state belongs to another start network")
        self._evaluation_seed = int(data["seed"])
        self._episode = Episode(self.problem.space)
        for action in data["actions"]:
            self._episode.step(action)
        return self._episode.observe()

    def fork(self) -> MorphEnv:
        """An independent environment in the same state, sharing the problem and its results."""
        twin = MorphEnv(problem=self.problem, render_mode=self.render_mode)
        twin.restore(self.state())
        return twin

    def replay(self, record: dict[str, Any]) -> tuple[float, dict[str, Any]]:
        """Play an episode again from its record, ``seed`` and ``actions`` as in ``info``.

        Returns:
            Its reward and last info.
        """
        self.reset(seed=int(record["seed"]))
        reward = 0.0
        info: dict[str, Any] = {}
        for action in record["actions"]:
            _, reward, ended, _, info = self.step(np.int64(action))
            if ended:
                break
        return reward, info
