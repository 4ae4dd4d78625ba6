"""Pictures of a state: the network that an episode has made, or the decisions that it has taken."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rlnas.envs.decision_episodes import BuildEpisode, EditEpisode
from rlnas.envs.protocols import Episode, Problem
from rlnas.errors import ConfigError
from rlnas.graph import Graph
from rlnas.report.drawing.choices import Row, compose_choices
from rlnas.report.drawing.columns import compose
from rlnas.report.drawing.png import pixels, png_excuse
from rlnas.report.drawing.scene import SMALL, Scene, Words, text_width

WIDTH, HEIGHT = 1080, 720
"""Pixels of every picture: both even, as video codecs want them."""
LINE: Final = 12.0


def check_pictures() -> None:
    """Raise if no picture can be drawn.

    Raises:
        ConfigError: If matplotlib is missing.
    """
    if png_excuse() is not None:
        raise ConfigError(
            "render_mode='rgb_array' needs matplotlib, not installed here; install it with pip install 'rlnas[plot]'"
        )


def picture(episode: Episode, problem: Problem, *, text: str) -> NDArray[np.uint8]:
    """A picture of an episode's present state, shape (720, 1080, 3).

    Args:
        text: The state as text, which is drawn where an episode has neither a graph nor decisions.
    """
    return pixels(_scene(episode, problem, text), width=WIDTH, height=HEIGHT)


def _scene(episode: Episode, problem: Problem, text: str) -> Scene:
    graph: Any = getattr(episode, "graph", None)
    title = f"step {len(episode.actions)} of {problem.max_steps}"
    if isinstance(graph, Graph):
        edits = getattr(episode, "edits", ())
        last = f", {edits[-1]}" if edits else ""
        return compose(graph, title=f"{title}{last}: {graph.n_params:,} parameters, {graph.macs:,} MACs")
    if isinstance(episode, BuildEpisode | EditEpisode):
        chosen, space = episode.assignment, episode.rules.space
        rows = [
            Row(
                decision.name,
                tuple(map(str, decision.choices)),
                chosen[slot] if slot < len(chosen) else None,
                current=slot == len(chosen),
            )
            for slot, decision in enumerate(space.decisions)
        ]
        return compose_choices(rows, title=title)
    lines = [title, "", *text.splitlines()]
    words = tuple([Words(line, LINE, LINE * (n + 1)) for n, line in enumerate(lines)])
    return Scene(
        right=max(text_width(line, SMALL) for line in lines) + 2 * LINE, height=LINE * (len(lines) + 2), words=words
    )
