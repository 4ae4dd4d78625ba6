"""Editing as a problem: networks that edits make of a start network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlnas.envs.morph_episode import MorphEpisode
from rlnas.envs.network_problem import NetworkProblem
from rlnas.errors import SpaceError
from rlnas.evaluation import Candidate
from rlnas.graph import Site
from rlnas.network import Network
from rlnas.spaces import MorphSpace

FIRST, START = "first_start", "start"
"""Folders of the networks that a saved state needs."""


class MorphProblem(NetworkProblem):
    """Networks that edits make of a start network; see `NetworkProblem`."""

    space: MorphSpace

    @property
    def origin(self) -> str:
        """Hash of the architecture that episodes start from, with its nodes' names, and of what may be done to it."""
        space = self.space
        rules = [space.start.key, space.start.order, [str(v) for v in space.variants], space.max_steps, space.max_nodes]
        text = json.dumps([*rules, str(space.limits), space.enforce])
        return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()

    def begin(self) -> MorphEpisode:
        """An episode at the start network."""
        return MorphEpisode(self.space)

    def candidate(self, episode: MorphEpisode) -> Candidate:
        """The network that an episode made."""
        return Candidate(episode.graph, self.start_id, tuple(episode.edits))

    def standing(self, episode: MorphEpisode) -> tuple[Candidate, Candidate] | None:
        """The edited network, and the start network."""
        return (self.candidate(episode), Candidate(episode.space.start, self.start_id)) if episode.edits else None

    def candidate_of(self, record: Mapping[str, Any]) -> Candidate:
        """The network that the record of an evaluation describes.

        Raises:
            StoreError: If its start network is missing.
        """
        edits = tuple(Site.from_json(site) for site in record["edits"])
        start_id = record.get("start_id", self.first_start_id)
        graph = self.service.starts.get(start_id).graph
        for site in edits:
            graph = self.space.edited(graph, site)
        return Candidate(graph, start_id, edits)

    def made(self, episode: MorphEpisode) -> dict[str, Any]:
        """The edits, in words and as data."""
        return {
            "operators": [str(site) for site in episode.edits],
            "edits": [site.to_json() for site in episode.edits],
        }

    def promote(self, network: Network) -> str:
        """Let episodes start from a trained network, those that begin after the next reset; gives its name.

        What rewards refer to stays, so that they can be compared, and so do the limits and the sizes of observations
        and actions. Between two rollouts only: the caller has to reset environments, and to log it.

        Raises:
            SpaceError: If the network has more nodes than there are slots.
            StoreError: If it cannot be kept.
        """
        assert self.reward is not None  # whose reference is the first start network
        space = replace(self.space, start=network.graph)
        start_id = self.service.starts.add(network)
        self.space, self._promoted = space, start_id
        return start_id

    def start_from(self, start_id: str) -> None:
        """Let episodes start from a network that was promoted before, or from the first start network.

        Raises:
            StoreError: If it is not in the library.
        """
        if start_id != self.start_id:
            self.space = replace(self.space, start=self.service.starts.get(start_id).graph)
        super().start_from(start_id)

    def save_starts(self, folder: Path) -> None:
        """Write the start network, and the one before any promotion, which rewards refer to; see `Weighted`."""
        starts = self.service.starts
        starts.get(self.first_start_id).save(folder / FIRST)
        starts.get(self.start_id).save(folder / START)

    def load_starts(self, folder: Path) -> None:
        """Start from what `save_starts` wrote; see `Weighted`.

        Raises:
            GraphError: If a network is missing or damaged.
            SpaceError: If they do not suit the task, or have more nodes than there are slots.
        """
        first, start = Network.load(folder / FIRST), Network.load(folder / START)
        for network in (first, start):
            graph = network.graph
            if (graph.input_shape, graph.output_shape) != (self.space.start.input_shape, self.space.start.output_shape):
                raise SpaceError(f"the start network in {folder} goes from {graph.input_shape} to {graph.output_shape}")
        space = replace(self.space, start=start.graph)
        first_id, start_id = (self.service.starts.add(network) for network in (first, start))
        if first_id != self.__dict__.get("first_start_id"):
            for name in ("reference", "reward", "start_reward"):
                self.__dict__.pop(name, None)
            self._controls.clear()
            self.first_start_id = first_id
        self.space, self._promoted = space, None if start_id == first_id else start_id
