"""A small lock-step environment with masks and a known optimum, following the contract of the real one."""

from __future__ import annotations

import hashlib
import itertools
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecEnv

from rlnas.controllers import Controller
from rlnas.layout import CONTEXT_FEATURES, NODE_FEATURES, STOP, Layout

GOOD, BAD = 0.3, -0.2


class Toy(VecEnv):
    """Each (slot, variant) may be taken once; it is worth GOOD where ``variant == slot % variants``, else BAD.

    The start is worth 1, so that the optimum is ``1 + max_steps * GOOD``.

    Args:
        nodes: Slots that hold a node.
        noise: Scale of heavy-tailed noise (Student's t with 2 degrees of freedom), a function of seed and edits.
        steps: Steps after which this environment ends the episodes, if not ``max_steps``: a broken contract.
    """

    def __init__(
        self,
        *,
        n_envs: int = 10,
        slots: int = 6,
        nodes: int = 4,
        variants: int = 3,
        max_steps: int = 3,
        noise: float = 0.0,
        noise_seed: int = 0,
        steps: int | None = None,
    ) -> None:
        self.layout = Layout(slots=slots, variants=variants)
        self.nodes, self.max_steps, self.noise, self.noise_seed = nodes, max_steps, noise, noise_seed
        self.steps = steps or max_steps
        self.render_mode = None
        sizes = self.layout.sizes
        boxes: dict[str, spaces.Space[Any]] = {
            name: spaces.Box(-1.0, 1.0, (sizes[name],), np.float32) for name in ("nodes", "node_mask", "context")
        }
        observations = spaces.Dict(boxes | {"action_mask": spaces.MultiBinary(sizes["action_mask"])})
        super().__init__(n_envs, observations, spaces.Discrete(self.layout.n_actions))
        self.taken: list[list[int]] = [[] for _ in range(n_envs)]
        self.actions: list[int] = []
        self.played: list[tuple[list[int], float]] = []
        self.seeds: list[int | None] = []

    def reset(self) -> dict[str, np.ndarray]:
        self.taken = [[] for _ in range(self.num_envs)]
        return self.observe()

    def legal(self, taken: list[int]) -> np.ndarray:
        mask = np.zeros(self.layout.n_actions, dtype=np.int8)
        mask[STOP] = 1
        if STOP not in taken:
            mask[1 : 1 + self.nodes * self.layout.variants] = 1
            mask[[a for a in taken if a != STOP]] = 0
        return mask

    def observe(self) -> dict[str, np.ndarray]:
        rows = [self.describe(taken) for taken in self.taken]
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

    def describe(self, taken: list[int]) -> dict[str, np.ndarray]:
        nodes = np.zeros((self.layout.slots, len(NODE_FEATURES)), dtype=np.float32)
        for slot in range(self.nodes):
            nodes[slot, slot % 9] = 1.0
            nodes[slot, NODE_FEATURES.index("position")] = slot / max(1, self.nodes - 1)
        for action in taken:
            if action != STOP:
                slot, variant = self.layout.slot_and_variant(action)
                nodes[slot, 9 + variant] = 1.0
        context = np.zeros(len(CONTEXT_FEATURES), dtype=np.float32)
        context[CONTEXT_FEATURES.index("steps_left")] = 1 - len(taken) / self.max_steps
        return {
            "nodes": nodes.reshape(-1),
            "node_mask": (np.arange(self.layout.slots) < self.nodes).astype(np.float32),
            "context": context,
            "action_mask": self.legal(taken),
        }

    def worth(self, taken: list[int]) -> float:
        edits = [self.layout.slot_and_variant(a) for a in taken if a != STOP]
        value = 1.0 + sum(GOOD if v == s % self.layout.variants else BAD for s, v in edits)
        digest = hashlib.blake2b(repr((self.noise_seed, sorted(edits))).encode(), digest_size=8).digest()
        return value + self.noise * float(np.random.default_rng(int.from_bytes(digest, "big")).standard_t(2))

    def step_async(self, actions: np.ndarray) -> None:
        self.actions = [int(a) for a in actions]

    def step_wait(self) -> Any:
        for taken, action in zip(self.taken, self.actions, strict=True):
            assert self.legal(taken)[action], "an illegal action"
            taken.append(action)
        ended = len(self.taken[0]) == self.steps
        rewards = np.zeros(self.num_envs, dtype=np.float32)
        infos: list[dict[str, Any]] = [{} for _ in self.taken]
        if ended:
            for i, taken in enumerate(self.taken):
                rewards[i] = self.worth(taken)
                self.played.append((taken, float(rewards[i])))
                infos[i] = {
                    "evaluation": self.evaluation(taken, float(rewards[i])),
                    "actions": list(taken),
                    "episode": {"r": float(rewards[i]), "l": len(taken), "t": 0.0},
                    "terminal_observation": self.describe(taken),
                }
            self.reset()
        return self.observe(), rewards, np.full(self.num_envs, ended), infos

    def imagined(self, n_envs: int) -> Imagined:
        """The same episodes without evaluation."""
        return Imagined(
            n_envs=n_envs,
            slots=self.layout.slots,
            nodes=self.nodes,
            variants=self.layout.variants,
            max_steps=self.max_steps,
        )

    def evaluation(self, taken: list[int], reward: float) -> dict[str, Any]:
        edits = sorted(a for a in taken if a != STOP)
        return {
            "accuracy": reward / 3,
            "latency_ms": None,
            "n_params": 100 + len(edits),
            "macs": 1000,
            "peak_memory_bytes": 10,
            "cost_s": 0.0,
            "reward": reward,
            "status": "infeasible" if len(edits) == 1 else "ok",
            "reason": None,
            "cached": False,
            "graph_key": repr(edits),
            "cache_key": repr(edits),
            "operators": [str(a) for a in edits],
            "edits": [],
            "seed": 0,
        }

    def close(self) -> None: ...

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self, attr_name)] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise NotImplementedError

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """All networks are of the same size here."""
        edits = range(1, 1 + self.nodes * self.layout.variants)
        if method_name == "largest_first":
            _, seed = args
            shuffled = np.random.default_rng(seed).permutation(edits).tolist()
            return [itertools.permutations(shuffled, self.max_steps)]
        if method_name == "sample_feasible":
            return [tuple(args[0].permutation(edits)[: self.max_steps].tolist())]
        raise AttributeError(method_name)

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False] * self.num_envs

    def seed(self, seed: int | None = None) -> list[int | None]:
        self.seeds.append(seed)
        return [None] * self.num_envs


class Imagined(Toy):
    """Episodes that earn nothing and tell what is known of their ends: which edits were made."""

    def worth(self, taken: list[int]) -> float:
        return 0.0

    def step_wait(self) -> Any:
        taken = self.taken
        observations, rewards, dones, infos = super().step_wait()
        if dones.all():
            for info, actions in zip(infos, taken, strict=True):
                edits = {a for a in actions if a != STOP}
                known = {f"edit {a}": float(a in edits) for a in range(1, self.layout.n_actions)}
                info["key"], info["features"] = repr(sorted(edits)), {"choices": None, "known": known}
                del info["evaluation"]
        return observations, rewards, dones, infos


def quiet(controller: Controller) -> Controller:
    """A controller that logs nowhere."""
    controller.set_logger(Logger(folder=None, output_formats=[]))
    return controller
