"""Published controllers: each runs, and is what its source says."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rlnas.cli.parse import parse_search
from rlnas.cli.stages import controller_arguments
from rlnas.controllers import PRESETS, arguments_of, make_controller
from rlnas.errors import ConfigError
from tests.cli.running import REPOSITORY
from tests.controllers.toy import Toy, quiet
from tests.docs.pages import section, table


def make(name: str) -> Any:
    chosen = PRESETS[name].controller
    return quiet(make_controller(chosen, Toy(), seed=0, arguments=arguments_of(name, controller=chosen)))


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_trains(name: str) -> None:
    controller = make(name)
    assert "arXiv:" in PRESETS[name].source
    before = {key: p.detach().clone() for key, p in controller.policy.named_parameters()}
    controller.learn(60)
    for key, parameter in controller.policy.named_parameters():
        assert torch.isfinite(parameter).all() and not torch.equal(before[key], parameter), key


@pytest.mark.parametrize(
    ("name", "units", "layers", "both", "rate", "bound"),
    [
        ("zoph", 35, 2, False, 6e-4, 0.08),
        ("nasnet", 100, 1, False, 3.5e-4, 0.1),
        ("enas", 64, 1, False, 1e-3, 0.1),
        ("graphnas", 100, 1, False, 3.5e-4, 0.1),
        ("eas", 50, 1, True, 2e-3, None),
        ("n2n", 30, 2, True, 3e-3, None),
    ],
)
def test_sizes_of_the_sources(name: str, units: int, layers: int, both: bool, rate: float, bound: float | None) -> None:
    """The constants of the papers and of their code."""
    controller = make(name)
    rnn = controller.policy.encoder.rnn
    assert isinstance(rnn, torch.nn.LSTM)
    assert (rnn.hidden_size, rnn.num_layers, rnn.bidirectional) == (units, layers, both)
    assert controller.learning_rate == rate
    assert len(controller.policy.variant_head) == 1  # logits are linear in the embeddings
    if bound is not None:
        weights = torch.cat([p.flatten() for p in controller.policy.parameters()])
        assert 0.98 * bound < weights.abs().max() <= bound
    wanted = {"enas": (1.5, 1.0), "graphnas": (2.5, 5.0)}.get(name, (None, 1.0))
    assert (controller.policy._tanh_constant, controller.policy._temperature) == wanted


def test_what_is_given_beside_a_preset_goes_before() -> None:
    words = ["--controller.name=reinforce", "--controller.preset=zoph", "--controller.learning_rate=0.02"]
    words.append("--controller.arguments={policy_kwargs: {hidden_size: 7}, baseline_decay: 0.3}")
    settings, _, _ = parse_search("rlnas train", words)
    arguments = controller_arguments(settings)
    preset = PRESETS["zoph"].arguments
    assert arguments == preset | {
        "learning_rate": 0.02,
        "baseline_decay": 0.3,
        "policy_kwargs": preset["policy_kwargs"] | {"hidden_size": 7},
    }
    assert PRESETS["zoph"].arguments["policy_kwargs"]["hidden_size"] == 35  # the preset itself stays as it is


def test_a_preset_of_another_controller() -> None:
    with pytest.raises(ConfigError, match="the preset 'eas' is for the controller 'reinforce', not 'ppo'"):
        arguments_of("eas", controller="ppo")
    with pytest.raises(ConfigError, match=r"unknown preset 'ease'\. Did you mean 'eas'"):
        arguments_of("ease", controller="ppo")


def test_the_page_names_them() -> None:
    text = section(REPOSITORY / "docs" / "controllers.md", "Published controllers")
    rows = {row[0]: row[1] for row in table(text)}
    assert rows == {name: preset.controller for name, preset in PRESETS.items()}
