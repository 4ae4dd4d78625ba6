"""Episodes that start from a network of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import pytest
import torch
from torch import nn

import rlnas
from rlnas.envs.make import SLOTS, SLOTS_PER_STEP, make_problem, make_space
from rlnas.errors import ConfigError, GraphError
from rlnas.network import Network
from rlnas.spaces import DEFAULT_VARIANTS, TRANSFORMER_VARIANTS, default_variants
from rlnas.tasks import load_task
from tests.networks import NETWORKS


class Own(nn.Module):
    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.first(x)))
        return self.head((x + torch.relu(self.second(x))).mean((2, 3)))


@pytest.fixture
def module() -> nn.Module:
    torch.manual_seed(0)
    return Own().eval()


def play(start: Any, **options: Any) -> tuple[Network, dict[str, Any]]:
    """The start network of a short episode, and the info of its last step."""
    env = gymnasium.make("rlnas/Morph-v0", start=start, start_evaluations=1, epochs=0.1, max_steps=2, **options)
    observation, _ = env.reset(seed=0)
    widen = int(observation["action_mask"][1:].argmax()) + 1
    env.step(widen)
    *_, info = env.step(0)
    problem = env.unwrapped.problem  # type: ignore[attr-defined]
    start_network = problem.service.starts.get(problem.start_id)
    env.close()
    return start_network, info


def test_a_module_is_taken_with_its_weights(module: nn.Module, tmp_path: Path) -> None:
    inputs = load_task("digits").train.inputs[:5]
    start, info = play(module, start_epochs=0)
    with torch.no_grad():
        assert torch.equal(start.module().eval()(inputs), module(inputs))
    assert info["evaluation"]["status"] == "ok" and len(info["evaluation"]["edits"]) == 1
    rlnas.from_module(module, inputs[:1]).save(tmp_path)
    again, same = play(tmp_path, start_epochs=0)
    assert again.content_hash == start.content_hash
    assert same["evaluation"]["accuracy"] == info["evaluation"]["accuracy"]


def test_weights_are_trained_on_unless_told_otherwise(module: nn.Module) -> None:
    given = rlnas.from_module(module, torch.zeros(1, 1, 8, 8))
    further, fresh = play(given, start_epochs=0.1)[0], play(given.graph, start_epochs=0.1)[0]
    assert len({n.content_hash for n in (given, further, fresh)}) == 3
    far = [float((n.tensors["head.weight"] - given.tensors["head.weight"]).norm()) for n in (further, fresh)]
    assert far[0] < 0.5 * far[1]


def test_slots_and_edits_suit_the_start() -> None:
    task = load_task("digits")
    small = make_space(task)
    assert small.max_nodes == SLOTS and small.variants == DEFAULT_VARIANTS
    digits = nn.Sequential(nn.Flatten(), *[layer for _ in range(30) for layer in (nn.Linear(64, 64), nn.ReLU())])
    large = rlnas.from_module(digits.append(nn.Linear(64, 10)), torch.zeros(1, 1, 8, 8)).graph
    assert make_space(task, start=large, max_steps=3).max_nodes == len(large) + 3 * SLOTS_PER_STEP
    fixture = NETWORKS["vit_narrow"]
    vit = rlnas.from_module(fixture.make(), fixture.example()).graph
    assert default_variants(vit) == TRANSFORMER_VARIANTS


@pytest.mark.parametrize(
    ("start", "error", "words"),
    [
        (Own(classes=3), ConfigError, "to (3,), the task 'digits' from float32 of shape (1, 8, 8) to (10,)"),
        ("nowhere", GraphError, "nowhere"),
    ],
    ids=["classes", "folder"],
)
def test_what_does_not_fit_is_refused_at_once(start: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        make_problem("digits", start=start)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_setting_that_is_not_known() -> None:
    with pytest.raises(ConfigError, match=r"unknown setting 'epoch'\. Did you mean 'epochs'"):
        make_problem(epoch=1)
