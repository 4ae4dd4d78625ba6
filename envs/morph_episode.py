"""An episode of edits as a pure state machine on graphs: no tensors, no evaluation."""

from __future__ import annotations

from rlnas.envs.morph_observation import observe
from rlnas.envs.protocols import Observation
from rlnas.graph import Graph, Site
from rlnas.layout import STOP
from rlnas.spaces import Legal, MorphSpace


class MorphEpisode:
    """The edits made so far, and what may follow.

    Attributes:
        graph: The architecture now.
        actions: Every action taken, illegal ones and STOP included.
        edits: Every edit made.
        stopped: True after STOP.
    """

    def __init__(self, space: MorphSpace) -> None:
        self.space = space
        self.graph: Graph = space.start
        self.actions: list[int] = []
        self.edits: list[Site] = []
        self.stopped = False

    @property
    def steps_left(self) -> int:
        """Steps until the episode ends by itself."""
        return self.space.max_steps - len(self.actions)

    @property
    def ended(self) -> bool:
        """True after STOP or the last step."""
        return self.stopped or self.steps_left == 0

    def legal(self) -> Legal:
        """The legal actions; only STOP once it has been taken."""
        return Legal(stop=True) if self.ended else self.space.legal(self.graph, steps_left=self.steps_left)

    def step(self, action: int) -> bool:
        """Take an action; False, and nothing but a step used, if it is illegal."""
        assert self.steps_left > 0, "the episode has ended; reset first"
        legal = self.legal()
        self.actions.append(action)
        if action == STOP and legal.stop:
            self.stopped = True
            return True
        site = legal.sites.get(action)
        if site is None:
            return False
        self.graph = self.space.edited(self.graph, site)
        self.edits.append(site)
        return True

    def observe(self) -> Observation:
        """Observation of the present state."""
        return observe(
            self.graph,
            start=self.space.start,
            layout=self.space.layout,
            limits=self.space.limits,
            steps_left=self.steps_left / self.space.max_steps,
            legal=self.legal().actions,
        )
