"""`rlnas/NASBench201-v0`: find a cell of NAS-Bench-201, whose accuracies and latencies are known."""

from __future__ import annotations

from typing import Any

from rlnas.envs.build import decisions_text
from rlnas.envs.nas_bench_201_problem import make_nas_bench_201
from rlnas.envs.single import EpisodeEnv, given_or_made
from rlnas.envs.table_problem import TableProblem
from rlnas.envs.vector import EpisodeVectorEnv


class NASBench201Env(EpisodeEnv):
    """Architecture design as six decisions, with known results.

    ## Description
    A cell of NAS-Bench-201 has four values and six edges, each of which does one of five operations. An episode decides
    for one edge after the other, or changes the edges of a cell. The accuracy of the network that stacks such cells is
    looked up: nothing is trained, and no network is built.

    ## Action Space
    `Discrete(31)`: 0 is STOP; `1 + edge * 5 + operation` chooses an operation for an edge. Legality, limits and
    `action_masks()` are those of `rlnas.envs.BuildEnv`.

    ## Observation Space
    That of `rlnas.envs.BuildEnv` for six decisions with up to five choices.

    | entry | type | size |
    |---|---|---|
    | `nodes` | Box(-1, 1), float32 | 6 x 14, row-major |
    | `node_mask` | Box(0, 1), float32 | 6 |
    | `context` | Box(-1, 1), float32 | 4 |
    | `action_mask` | MultiBinary | 31 |

    ## Rewards
    0 until the end, then the validation accuracy after 12 epochs, in [0, 1], or the reward that `reward` names; 0, or
    the lowest reward if that is below, if illegal actions left the cell unfinished or outside a limit. With
    `step_reward` every step is paid.

    ## Starting State
    In the form `"build"` nothing is decided; in the form `"edit"` all edges skip, unless `start` says otherwise.

    ## Episode End
    `terminated` after six steps in the form `"build"`; after STOP or `max_steps` changes in the form `"edit"`. Never
    `truncated`.

    ## Arguments
    Those of `rlnas.envs.make_nas_bench_201`, or a ready `problem`; `render_mode="ansi"` makes `render()` return a
    table.

    ## Version History
    v0: first version.

    References:
        Dong, Yang, NAS-Bench-201, ICLR 2020, arXiv:2001.00326.
    """

    problem: TableProblem

    def __init__(
        self, *, problem: TableProblem | None = None, seed: int = 0, render_mode: str | None = None, **settings: Any
    ) -> None:
        super().__init__(given_or_made(problem, make_nas_bench_201, settings), seed=seed, render_mode=render_mode)

    def _text(self) -> str:
        return decisions_text(self._episode)


def nas_bench_201_vector(
    num_envs: int = 1, *, problem: TableProblem | None = None, seed: int = 0, **settings: Any
) -> EpisodeVectorEnv:
    """Many `NASBench201Env` in lock-step, with the same arguments."""
    return EpisodeVectorEnv(num_envs, problem=given_or_made(problem, make_nas_bench_201, settings), seed=seed)
