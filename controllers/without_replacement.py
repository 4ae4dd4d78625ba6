"""Sampling without replacement: a policy that plays no episode a second time.

Episodes are the leaves of a tree whose inner nodes are the states on the way. Each node knows which part of the
policy's probability below it is left, played leaves having none. At a node, actions are drawn in proportion to their
probability times what is left below them, so that an episode is drawn from the policy given that it is new.

References:
    Shi, Bieber & Sutton, Incremental Sampling Without Replacement for Sequence Models, ICML 2020, arXiv:2002.09067
    (for one policy; here the tree is brought up to date when the policy has changed).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlnas.controllers.policies import SlotPolicy
from rlnas.layout import STOP

MOST: Final = 1_000
"""Played episodes that a tree holds; of more, those that the policy is the least likely to play again go."""
CHUNK: Final = 1_024
"""States that the policy is asked about at once."""

Entries = dict[str, NDArray[Any]]


class Node:
    """A state on the way, which several episodes may share.

    Attributes:
        observation: What is seen there.
        legal: Legal actions, ascending.
        chances: Their probabilities under the policy.
        left: For each of them, the share of the probability below it that was not played.
        after: Nodes by action; None where an episode ended with it.
    """

    __slots__ = ("after", "chances", "left", "legal", "observation")

    def __init__(self, observation: Entries) -> None:
        self.observation = observation
        self.legal = np.flatnonzero(observation["action_mask"])
        self.chances: NDArray[np.float64] = np.full(len(self.legal), 1.0 / len(self.legal))
        self.left: NDArray[np.float64] = np.ones(len(self.legal))
        self.after: dict[int, Node | None] = {}

    @property
    def total_left(self) -> float:
        """Share of the probability below it that was not played."""
        return float(self.chances @ self.left)

    def place(self, action: int) -> int:
        """Place of an action among the legal ones."""
        return int(np.searchsorted(self.legal, action))


class EpisodeTree:
    """Chooses actions such that no episode is played twice; all episodes of a batch proceed in lock-step.

    Episodes of one batch don't know yet where the others will end. So if more of them come to one state than it has new
    ends, and when everything is played, some are repeated.

    Where the environment begins from different observations, such as one for each limit, each has a tree of its own.
    Two orders of the same edits are two episodes.

    Args:
        length: Steps of an episode.
        most: Played episodes that are held.

    Attributes:
        length: As given.
    """

    def __init__(self, length: int, *, most: int = MOST) -> None:
        self.length, self._most = length, most
        self._roots: dict[bytes, Node] = {}
        self._step = 0
        self._ways: list[list[tuple[Node, int]]] = []  # of the episodes in play
        self._ended: list[bool] = []

    def __len__(self) -> int:
        """Number of played episodes that it holds."""
        return sum(after is None for node, _, _ in self._nodes() for after in node.after.values())

    @property
    def left(self) -> float:
        """Share of the policy's probability that was not played, the mean over trees."""
        return float(np.mean([root.total_left for root in self._roots.values()])) if self._roots else 1.0

    def begin(self, policy: SlotPolicy) -> None:
        """Take in what the policy has become; new episodes follow."""
        self._step = 0
        nodes = list(self._nodes())
        choices = [node for node, _, _ in nodes if len(node.legal) > 1]
        for begin in range(0, len(choices), CHUNK):
            part = choices[begin : begin + CHUNK]
            observations = {
                name: torch.from_numpy(np.stack([node.observation[name] for node in part]))
                for name in part[0].observation
            }
            with torch.no_grad():
                found = policy.probabilities(observations)
            for node, row in zip(part, found.double().numpy(), strict=True):
                node.chances = row[node.legal]
        self._forget_the_least_likely(nodes)
        for node, before, action in reversed(nodes):
            for ended in (a for a, after in node.after.items() if after is None):
                node.left[node.place(ended)] = 0.0
            if before is not None:
                before.left[before.place(action)] = node.total_left

    def __call__(self, observations: Mapping[str, Tensor], probabilities: Tensor) -> Tensor:
        """Choose the next action of each episode of the batch.

        Args:
            observations: Entries of shape (B, ...).
            probabilities: Of all actions under the policy, shape (B, A); 0 where illegal.

        Returns:
            Actions, shape (B,).
        """
        if self._step == 0:
            self._ways, self._ended = [[] for _ in probabilities], [False] * len(probabilities)
        seen = {name: entry.numpy() for name, entry in observations.items()}
        self._step += 1
        chances = probabilities.detach().double().numpy()
        actions = [
            self._choose(i, {name: entry[i] for name, entry in seen.items()}, chances[i]) for i in range(len(chances))
        ]
        self._step %= self.length
        return torch.tensor(actions)

    def clear(self) -> None:
        """Forget what was played."""
        self._roots = {}

    def tensors(self) -> dict[str, Tensor]:
        """Everything, for a checkpoint: of each node and each leaf the node before it, and what is seen at nodes."""
        nodes = list(self._nodes())
        if not nodes:
            return {}
        places = {id(node): place for place, (node, _, _) in enumerate(nodes)}
        before = [-1 if parent is None else places[id(parent)] for _, parent, _ in nodes]
        leaves = [
            (places[id(node)], action) for node, _, _ in nodes for action, after in node.after.items() if after is None
        ]
        return {
            "before": torch.tensor(before),
            "action": torch.tensor([action for _, _, action in nodes]),
            "leaves": torch.tensor(leaves, dtype=torch.int64).reshape(-1, 2),
        } | {
            f"observations.{name}": torch.from_numpy(np.stack([node.observation[name] for node, _, _ in nodes]))
            for name in nodes[0][0].observation
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up what `tensors` gave; probabilities follow with `begin`."""
        self.clear()
        if not tensors:
            return
        entries = {
            name.removeprefix("observations."): tensor.numpy()
            for name, tensor in tensors.items()
            if name.startswith("observations.")
        }
        nodes: list[Node] = []
        for place, (before, action) in enumerate(
            zip(tensors["before"].tolist(), tensors["action"].tolist(), strict=True)
        ):
            nodes.append(Node({name: entry[place].copy() for name, entry in entries.items()}))
            if before < 0:
                self._roots[_key(nodes[-1].observation)] = nodes[-1]
            else:
                nodes[before].after[action] = nodes[-1]
        for place, action in tensors["leaves"].tolist():
            nodes[place].after[action] = None

    def _choose(self, i: int, observation: Entries, chances: NDArray[np.float64]) -> int:
        """The next action of one episode."""
        if self._ended[i]:
            return STOP
        way = self._ways[i]
        node = self._reach(way, observation, chances)
        weights = node.chances * node.left
        if not weights.sum() > 0.0:  # all of it was played
            weights = node.chances
        place = int(torch.multinomial(torch.from_numpy(weights), 1))
        action = int(node.legal[place])
        way.append((node, action))
        if action == STOP or self._step == self.length:
            self._ended[i] = True
            node.after[action] = None
            left = 0.0
            for passed, taken in reversed(way):
                passed.left[passed.place(taken)] = left
                left = passed.total_left
        return action

    def _reach(self, way: list[tuple[Node, int]], observation: Entries, chances: NDArray[np.float64]) -> Node:
        """The node where an episode is, made if it is new."""
        siblings: dict[Any, Any] = way[-1][0].after if way else self._roots
        key = way[-1][1] if way else _key(observation)
        node: Node | None = siblings.get(key)
        if node is None:
            node = siblings[key] = Node({name: entry.copy() for name, entry in observation.items()})
            node.chances = chances[node.legal]
        return node

    def _nodes(self) -> Iterator[tuple[Node, Node | None, int]]:
        """All nodes, each after the one before it: (node, the one before it, the action between)."""
        open_: list[tuple[Node, Node | None, int]] = [(root, None, -1) for root in reversed(self._roots.values())]
        while open_:
            node, before, action = open_.pop()
            yield node, before, action
            open_ += [(after, node, action) for action, after in reversed(node.after.items()) if after is not None]

    def _forget_the_least_likely(self, nodes: list[tuple[Node, Node | None, int]]) -> None:
        """Hold no more than the most likely of the played episodes."""
        reached: dict[int, float] = {}
        leaves: list[tuple[float, Node, int]] = []
        for node, before, action in nodes:
            chance = 1.0 if before is None else reached[id(before)] * before.chances[before.place(action)]
            reached[id(node)] = chance
            leaves += [
                (chance * node.chances[node.place(a)], node, a) for a, after in node.after.items() if after is None
            ]
        if len(leaves) <= self._most:
            return
        for _, node, action in sorted(leaves, key=lambda leaf: -leaf[0])[self._most :]:
            del node.after[action]
            node.left[node.place(action)] = 1.0
        for node, before, action in reversed(nodes):
            if before is not None and not node.after:
                del before.after[action]
        self._roots = {key: root for key, root in self._roots.items() if root.after}


def _key(observation: Entries) -> bytes:
    return b"".join(entry.tobytes() for _, entry in sorted(observation.items()))
