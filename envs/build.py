"""`rlnas/Build-v0`: make a network decision by decision, or change the decisions of one."""

from __future__ import annotations

from typing import Any

from rlnas.envs.decision_episodes import BuildEpisode, EditEpisode
from rlnas.envs.protocols import Episode
from rlnas.envs.single import EpisodeEnv, given_or_made
from rlnas.envs.table_problem import TableProblem
from rlnas.envs.vector import EpisodeVectorEnv


class BuildEnv(EpisodeEnv):
    """Architecture design as a list of decisions.

    ## Description
    A space of decisions says what there is to decide and to choose from. In the form `"build"` an episode takes one
    decision after the other; in the form `"edit"` it begins with all of them taken, and every step changes one or
    stops. What is chosen in the end is looked up in a table of scores: nothing is trained.

    ## Action Space
    `Discrete(1 + decisions * variants)`, `variants` being the most choices of any decision: 0 is STOP;
    `1 + slot * variants + choice` chooses for the decision in that slot. In the form `"build"` only choices for the
    next decision are legal, and STOP is not. Limits are part of the mask: a choice from which no assignment within the
    limits can be completed is illegal; so is a change that leaves them. An illegal action changes nothing, uses a step
    and sets `info["illegal_action"]`; `action_masks()` and the `action_mask` entry tell which are legal.

    ## Observation Space
    A flat `Dict`; see `rlnas.layout` for the meaning of each column.

    | entry | type | size |
    |---|---|---|
    | `nodes` | Box(-1, 1), float32 | decisions x (9 + variants), row-major |
    | `node_mask` | Box(0, 1), float32 | decisions |
    | `context` | Box(-1, 1), float32 | 4 |
    | `action_mask` | MultiBinary | number of actions |

    ## Rewards
    0 until the end, then the score of what is chosen. What breaks a limit or leaves a decision open, which only illegal
    actions can bring about, gets 0, or the lowest score of the table if that is negative.

    ## Starting State
    In the form `"build"` nothing is decided; in the form `"edit"` the choices of `start`.

    ## Episode End
    `terminated` after one step for each decision in the form `"build"`; after STOP or `max_steps` changes in the form
    `"edit"`. Never `truncated`.

    ## Arguments
    Those of `rlnas.envs.TableProblem`, or a ready `problem`; `render_mode="ansi"` makes `render()` return a table.

    ## Version History
    v0: first version.
    """

    problem: TableProblem

    def __init__(
        self, *, problem: TableProblem | None = None, seed: int = 0, render_mode: str | None = None, **settings: Any
    ) -> None:
        super().__init__(given_or_made(problem, TableProblem, settings), seed=seed, render_mode=render_mode)

    def _text(self) -> str:
        return decisions_text(self._episode)


def build_vector(
    num_envs: int = 1, *, problem: TableProblem | None = None, seed: int = 0, **settings: Any
) -> EpisodeVectorEnv:
    """Many `BuildEnv` in lock-step, with the same arguments."""
    return EpisodeVectorEnv(num_envs, problem=given_or_made(problem, TableProblem, settings), seed=seed)


def decisions_text(episode: Episode) -> str:
    """The decisions, one a line."""
    assert isinstance(episode, BuildEpisode | EditEpisode)
    space = episode.rules.space
    chosen = space.choices(episode.assignment)
    return "\n".join(f"{slot:3d}  {d.name:<16} {chosen.get(d.name, '')}" for slot, d in enumerate(space.decisions))
