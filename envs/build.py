"""`rlnas/Build-v0`: make a network decision by decision, or change the decisions of one."""

from __future__ import annotations

from typing import Any, cast

from rlnas.envs.build_problem import BuildProblem
from rlnas.envs.decision_episodes import BuildEpisode, EditEpisode
from rlnas.envs.make import make_problem, makes_networks
from rlnas.envs.protocols import Episode
from rlnas.envs.single import EpisodeEnv, given_or_made
from rlnas.envs.table_problem import TableProblem
from rlnas.envs.vector import EpisodeVectorEnv
from rlnas.errors import ConfigError, unknown_name
from rlnas.spaces import MAKERS, DecisionSpace

AnyProblem = TableProblem | BuildProblem


def make_build_problem(**settings: Any) -> AnyProblem:
    """The problem of `BuildEnv`: with ``scores`` a table, else networks that are made and trained.

    Raises:
        ConfigError: If it is neither, or a name or a setting is not known.
        LimitError: If nothing meets the limits.
        SpaceError: If an argument does not fit the space.
    """
    space = settings.get("space")
    if "scores" in settings or isinstance(space, DecisionSpace):
        return TableProblem(**settings)
    if not makes_networks(space):
        raise ConfigError(unknown_name("space", str(space), MAKERS))
    problem = make_problem(**settings)
    assert isinstance(problem, BuildProblem)
    return problem


class BuildEnv(EpisodeEnv):
    """Architecture design as a list of decisions.

    ## Description
    A space of decisions says what there is to decide and to choose from. In the form `"build"` an episode takes one
    decision after the other; in the form `"edit"` it begins with all of them taken, and every step changes one or
    stops. What is chosen in the end makes a network, which is trained from fresh weights; or it is looked up in a table
    of scores, and nothing is trained.

    ## Action Space
    `Discrete(1 + decisions * variants)`, `variants` being the most choices of any decision: 0 is STOP;
    `1 + slot * variants + choice` chooses for the decision in that slot. In the form `"build"` only choices for the
    next decision are legal, and STOP is not. Limits are part of the mask: a choice is illegal from which no assignment
    within the limits can be completed, or none is known; so is a change that leaves them. An illegal action changes
    nothing, uses a step and sets `info["illegal_action"]`; `action_masks()` and the `action_mask` entry tell which are
    legal.

    ## Observation Space
    A flat `Dict`; see `rlnas.layout` for the meaning of each column.

    | entry | type | size |
    |---|---|---|
    | `nodes` | Box(-1, 1), float32 | decisions x (9 + variants), row-major |
    | `node_mask` | Box(0, 1), float32 | decisions |
    | `context` | Box(-1, 1), float32 | 4 |
    | `action_mask` | MultiBinary | number of actions |

    ## Rewards
    0 until the end, then what the reward says of the network, relative to the reference network; or the score of what
    is chosen. With `step_reward` every step is paid. What breaks a limit or leaves a decision open, which only illegal
    actions can bring about, gets the reward of a failure; of a table 0, or the lowest score if that is negative.

    ## Starting State
    In the form `"build"` nothing is decided; in the form `"edit"` the choices of `start`, or the reference network's.

    ## Episode End
    `terminated` after one step for each decision in the form `"build"`; after STOP or `max_steps` changes in the form
    `"edit"`. Never `truncated`.

    ## Arguments
    With `scores` those of `rlnas.envs.TableProblem`; else those of `rlnas.envs.make_problem` and
    `rlnas.envs.make_networks`; or a ready `problem`. `render_mode="ansi"` makes `render()` return a table.

    ## Version History
    v0: first version.
    """

    problem: AnyProblem

    def __init__(
        self,
        *,
        problem: AnyProblem | None = None,
        seed: int = 0,
        render_mode: str | None = None,
        **settings: Any,
    ) -> None:
        made = cast(AnyProblem, given_or_made(problem, make_build_problem, settings))
        super().__init__(made, seed=seed, render_mode=render_mode)

    def _text(self) -> str:
        return decisions_text(self._episode)


def build_vector(
    num_envs: int = 1, *, problem: AnyProblem | None = None, seed: int = 0, **settings: Any
) -> EpisodeVectorEnv:
    """Many `BuildEnv` in lock-step, with the same arguments."""
    made = cast(AnyProblem, given_or_made(problem, make_build_problem, settings))
    return EpisodeVectorEnv(num_envs, problem=made, seed=seed)


def decisions_text(episode: Episode) -> str:
    """The decisions, one a line."""
    assert isinstance(episode, BuildEpisode | EditEpisode)
    space = episode.rules.space
    chosen = space.choices(episode.assignment)
    return "\n".join(f"{slot:3d}  {d.name:<16} {chosen.get(d.name, '')}" for slot, d in enumerate(space.decisions))
