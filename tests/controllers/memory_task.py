"""An environment in which what the first step showed decides what is right at the last one."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlnas.layout import CONTEXT_FEATURES, STOP
from tests.controllers.toy import Toy

CUE = CONTEXT_FEATURES.index("headroom")


class MemoryTask(Toy):
    """The first observation shows +1 or -1; all others are alike but for the steps left.

    The last action earns 1 if it is variant 0 of slot 0 after +1, or variant 1 after -1, so that half of the episodes
    is what a policy without a memory can hope for. Nothing tells what was done before, and the mask is drawn anew at
    each step from the actions that do not matter. In some steps before the last only STOP is legal.
    """

    def __init__(self, *, n_envs: int = 16, max_steps: int = 4, seed: int = 0, forced: bool = True) -> None:
        self.generator = np.random.default_rng(seed)
        self.forced = forced
        super().__init__(n_envs=n_envs, slots=3, nodes=2, variants=2, max_steps=max_steps)
        self.begin()

    def begin(self) -> None:
        self.cues = self.generator.choice([-1.0, 1.0], size=self.num_envs)
        self.masks = self.draw()

    def reset(self) -> dict[str, np.ndarray]:
        self.taken = [[] for _ in range(self.num_envs)]
        self.begin()
        return self.observe()

    def draw(self) -> np.ndarray:
        """Masks of the present step."""
        step = len(self.taken[0])
        masks = np.zeros((self.num_envs, self.layout.n_actions), dtype=np.int8)
        masks[:, STOP] = 1
        if step == self.max_steps - 1:
            masks[:, [1, 2]] = 1
        else:
            masks[:, 1:5] = self.generator.random((self.num_envs, 4)) < 0.7
            if self.forced and step:
                masks[self.generator.random(self.num_envs) < 0.3, 1:] = 0
        return masks

    def observe(self) -> dict[str, np.ndarray]:
        step = len(self.taken[0])
        nodes = np.zeros((self.num_envs, self.layout.sizes["nodes"]), dtype=np.float32)
        context = np.zeros((self.num_envs, len(CONTEXT_FEATURES)), dtype=np.float32)
        context[:, CONTEXT_FEATURES.index("steps_left")] = 1 - step / self.max_steps
        context[:, CUE] = self.cues if step == 0 else 0.0
        node_mask = np.tile((np.arange(3) < 2).astype(np.float32), (self.num_envs, 1))
        return {"nodes": nodes, "node_mask": node_mask, "context": context, "action_mask": self.masks.copy()}

    def step_wait(self) -> Any:
        rows = np.arange(self.num_envs)
        assert self.masks[rows, self.actions].all(), "an illegal action"
        for taken, action in zip(self.taken, self.actions, strict=True):
            taken.append(action)
        ended = len(self.taken[0]) == self.max_steps
        rewards = np.zeros(self.num_envs, dtype=np.float32)
        infos: list[dict[str, Any]] = [{} for _ in rows]
        if ended:
            right = np.where(self.cues > 0, 1, 2)
            rewards[:] = np.array(self.actions) == right
            self.played += [(list(taken), float(r)) for taken, r in zip(self.taken, rewards, strict=True)]
            for info, reward in zip(infos, rewards, strict=True):
                info["episode"] = {"r": float(reward), "l": self.max_steps, "t": 0.0}
            self.reset()
        else:
            self.masks = self.draw()
        return self.observe(), rewards, np.full(self.num_envs, ended), infos
