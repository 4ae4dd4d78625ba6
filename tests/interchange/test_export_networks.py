"""Published networks go out as they came in: source that gives the same, ONNX that nearly does, whole drawings."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import rlnas
from rlnas.errors import GraphError
from rlnas.interchange import tidy, write_onnx
from rlnas.interchange.names import renamed
from rlnas.interchange.structure import Structure, structured
from rlnas.network import Network
from rlnas.report.drawing.columns import compose
from tests.networks import NETWORKS, enliven
from tests.report.test_drawing import check_scene, crossings, overlaid

NAMED = {
    "resnet18": 70,
    "vgg11_bn": 60,
    "mobilenet_v2": 100,
    "mobilenet_v3_small": 160,
    "efficientnet_b0": 130,
    "densenet121": 75,
    "squeezenet1_1": 60,
    "convnext_tiny": 75,
    "vit_tiny_patch16_224": 70,
    "gpt_tied": 70,
    "gpt2": 70,
}
"""Lines that the source may have."""
QUICK = ("resnet18", "mobilenet_v2", "densenet121", "vit_tiny_patch16_224", "gpt_tied")


def taken_in(name: str) -> Network:
    torch.manual_seed(0)
    module = enliven(NETWORKS[name].make(), generator=torch.Generator().manual_seed(0))
    return tidy(rlnas.from_module(module, NETWORKS[name].example()))


def check_source(network: Network, name: str) -> Structure:
    structure = structured(network.graph)
    inputs = NETWORKS[name].example()
    with torch.no_grad():
        found = structure.module(renamed(network, structure.ids).tensors).eval()(inputs)
        assert torch.equal(found, network.module().eval()(inputs))
    assert max(map(len, structure.source.splitlines())) <= 120
    return structure


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in NAMED])
def test_source_is_short_and_gives_the_same(name: str) -> None:
    structure = check_source(taken_in(name), name)
    assert len(structure.source.splitlines()) <= NAMED[name]
    assert "import torch\n" in structure.source and "rlnas" not in structure.source


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, fixture in NETWORKS.items() if fixture.small])
def test_small_networks_leave_as_they_came(name: str) -> None:
    try:
        network = taken_in(name)
    except GraphError as error:  # which networks come in is for the tests of from_module to say
        pytest.skip(str(error))
    check_source(network, name)
    scene = compose(network.graph, title="")
    check_scene(scene)
    assert not crossings(scene) and not overlaid(scene)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMED)
def test_onnx(name: str, tmp_path: Path) -> None:
    assert write_onnx(taken_in(name), tmp_path / "model.onnx") < 1e-5


def test_places_are_those_of_the_module_that_came_in() -> None:
    torch.manual_seed(0)
    module = NETWORKS["resnet18"].make()
    network = tidy(rlnas.from_module(module, NETWORKS["resnet18"].example()))
    places = set(structured(network.graph).places.values())
    own = {name for name in module.state_dict() if "downsample" not in name}
    assert own <= places


def test_drawings_of_big_networks_fold_blocks() -> None:
    for name, most in (("densenet121", 40), ("vit_tiny_patch16_224", 40), ("resnet18", 60)):
        scene = compose(taken_in(name).graph, title="")
        assert len(scene.shapes) < most and scene.right < 1400 and scene.height < 1400
        assert any(words.text.startswith("\u00d7") for words in scene.words)
