"""`rlnas/Morph-v0`: edit a network step by step."""

from __future__ import annotations

from typing import Any

from rlnas.envs.make import make_morph_problem
from rlnas.envs.morph_episode import MorphEpisode
from rlnas.envs.morph_problem import MorphProblem
from rlnas.envs.single import EpisodeEnv, given_or_made
from rlnas.envs.vector import EpisodeVectorEnv
from rlnas.report.layers import columns


class MorphEnv(EpisodeEnv):
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
    illegal actions used up the steps, gets 0. `step_reward` pays every step, and leaves the returns what they are.

    ## Starting State
    The start network, trained once for a problem. `reset(seed=s)` sets the seed from which later evaluations draw.

    ## Episode End
    `terminated` after STOP or `max_steps` actions; `truncated` by a `TimeLimit` around it only.

    ## Arguments
    Those of `rlnas.envs.make_problem`, or a ready `problem`. `render_mode="ansi"` makes `render()` return a table,
    `render_mode="rgb_array"` a picture of shape (720, 1080, 3), which needs `rlnas[plot]`.

    ## Version History
    v0: first version.
    """

    problem: MorphProblem

    def __init__(
        self, *, problem: MorphProblem | None = None, seed: int = 0, render_mode: str | None = None, **settings: Any
    ) -> None:
        super().__init__(given_or_made(problem, make_morph_problem, settings), seed=seed, render_mode=render_mode)

    def _text(self) -> str:
        """The network as a table, one node a line."""
        assert isinstance(self._episode, MorphEpisode)
        graph = self._episode.graph
        rows: list[tuple[str, ...]] = [("slot", "node", "op", "shape", "parameters", "MACs")]
        for slot, id in enumerate(graph.order):
            params, macs = graph.node_costs[id]
            shape = "x".join(map(str, graph.shapes[id]))
            rows.append((str(slot), id, graph.node(id).op, shape, f"{params:,}", f"{macs:,}"))
        rows.append(("", "all", "", "", f"{graph.n_params:,}", f"{graph.macs:,}"))
        return "\n".join(columns(rows, left=(1, 2, 3)))


def morph_vector(
    num_envs: int = 1, *, problem: MorphProblem | None = None, seed: int = 0, **settings: Any
) -> EpisodeVectorEnv:
    """Many `MorphEnv` in lock-step, with the same arguments."""
    return EpisodeVectorEnv(num_envs, problem=given_or_made(problem, make_morph_problem, settings), seed=seed)
