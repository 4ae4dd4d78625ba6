"""Source with classes for blocks that repeat."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import rlnas
from rlnas.graph import Graph
from rlnas.interchange import export, tidy
from rlnas.interchange.names import renamed
from rlnas.interchange.structure import Structure, structured
from rlnas.network import Network
from rlnas.operators import OPERATORS
from tests.graphs import Builder, graphs
from tests.nets import NETS
from tests.operators.sameness import generator, make_inputs, make_network


def check_structure(network: Network) -> str:
    """The source of a network gives bit for bit what the network gives, with the tensors under its names."""
    structure = structured(network.graph)
    other = renamed(network, structure.ids)
    module = structure.module({name: tensor.clone() for name, tensor in other.tensors.items()})
    inputs = make_inputs(network.graph, 1, n=3, dtype=network.dtype)
    for training in (False, True):
        torch.manual_seed(0)
        expected = network.module().train(training)(inputs)
        torch.manual_seed(0)
        assert torch.equal(module.train(training)(inputs), expected)
    assert other.graph.key == network.graph.key
    return structure.source


def lines_of(source: str) -> list[str]:
    return [line.strip() for line in source.splitlines()]


@pytest.mark.parametrize("name", NETS)
def test_networks_give_the_same(name: str) -> None:
    check_structure(tidy(make_network(NETS[name](), 0)))


@given(graph=graphs(), seed=st.integers(0, 100))
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_any_graph_gives_the_same(graph: Graph, seed: int) -> None:
    check_structure(tidy(make_network(graph, seed)))


EDITED = ["vit", *(pytest.param(name, marks=pytest.mark.slow) for name in ("resnet20", "mobilenet", "densenet"))]


@pytest.mark.parametrize("name", EDITED)
def test_edited_networks_give_the_same(name: str) -> None:
    network = tidy(make_network(NETS[name](), 0))
    inputs = make_inputs(network.graph, 0)
    for operator in OPERATORS.values():
        sites = operator.sites(network.graph)
        calibration = inputs if operator.needs_calibration else None
        for site in sites[:: max(1, len(sites) - 1)]:
            check_structure(tidy(operator.apply(network, site, generator=generator(0), calibration=calibration)))


def test_residual_networks_read_as_a_person_writes_them() -> None:
    lines = lines_of(structured(tidy(make_network(NETS["resnet20"](), 0)).graph).source)
    assert "self.stage1 = nn.Sequential(*[ResidualBlock(16) for _ in range(3)])" in lines
    assert "self.stage2 = nn.Sequential(DownBlock(16, 32), ResidualBlock(32), ResidualBlock(32))" in lines
    assert lines.count("self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)") == 1
    assert "def __init__(self, in_channels: int, out_channels: int) -> None:" in lines
    assert lines[-2:] == ["x = self.stage3(x)", "return self.head_fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))"]


def test_values_that_depend_on_others_are_no_arguments() -> None:
    b = Builder(3, 16, 16)
    b.conv(4)
    for out, stride, kernel in ((6, 2, 3), (6, 1, 3), (8, 2, 5), (8, 1, 5), (8, 1, 3)):
        source, wide = b.last, 4 * b.shape[0]
        b.conv(wide, 1)
        b.add("relu")
        b.conv(wide, kernel, stride=(stride, stride), groups=wide)
        b.conv(out, 1)
        if stride == 1:
            b.add("add", source, b.last)
    source = check_structure(tidy(make_network(b.graph(), 0)))
    lines = lines_of(source)
    assert "def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:" in lines
    assert "self.conv1 = nn.Conv2d(in_channels, 4 * in_channels, 1)" in lines
    assert "padding=kernel_size // 2, groups=4 * in_channels" in source
    stage2 = "InvertedBottleneck(6, 8, 5), InvertedResidual(8, 5), InvertedResidual(8, 3)"
    assert f"self.stage2 = nn.Sequential({stage2})" in lines


def test_what_most_blocks_leave_out_has_a_default() -> None:
    b = Builder(3, 16, 16)
    for k in range(4):
        source = b.last
        b.conv(3, bias=k != 1)
        b.add("batch_norm2d")
        b.add("add", b.last, source)
    source = check_structure(tidy(make_network(b.graph(), 0)))
    assert "def __init__(self, bias: bool = True) -> None:" in source
    assert "nn.Sequential(ResidualBlock(), ResidualBlock(bias=False), ResidualBlock(), ResidualBlock())" in source


def test_growing_layers_are_a_range() -> None:
    text = structured(tidy(make_network(NETS["densenet"](), 0)).graph).source
    assert "nn.Sequential(*[DenseLayer(n) for n in range(" in text and text.count("class ") == 2


def test_equal_blocks_need_no_arguments() -> None:
    lines = lines_of(structured(tidy(make_network(NETS["vit"](), 0)).graph).source)
    assert any(line.startswith("self.blocks = nn.Sequential(*[TransformerBlock() for _ in range(") for line in lines)


def test_a_block_that_was_edited_has_a_class_of_its_own() -> None:
    network = tidy(make_network(NETS["resnet20"](), 0))
    site = next(s for s in OPERATORS["deepen"].sites(network.graph) if "stage1_block2" in s.anchor)
    source = check_structure(tidy(OPERATORS["deepen"].apply(network, site, generator=generator(0))))
    assert "self.stage1 = nn.Sequential(ResidualBlock(16), ResidualBlock2(), ResidualBlock(16))" in source


def test_a_block_that_was_widened_has_other_arguments() -> None:
    network = tidy(make_network(NETS["resnet20"](), 0))
    site = next(s for s in OPERATORS["widen"].sites(network.graph, (2.0,)) if "stage1_block2" in s.anchor)
    source = check_structure(tidy(OPERATORS["widen"].apply(network, site, generator=generator(0))))
    stage = "ResidualBlock(16, 16), ResidualBlock(16, 32), ResidualBlock(16, 16)"
    assert f"self.stage1 = nn.Sequential({stage})" in source and "hidden_channels: int" in source


def test_names_that_a_person_gave_are_places_again() -> None:
    b = Builder(3, 8, 8)
    b.conv(4, id="conv1")
    for stage in (1, 2):
        for k in (0, 1):
            source = b.last
            b.conv(4, id=f"layer{stage}_{k}_conv1")
            b.add("batch_norm2d", id=f"layer{stage}_{k}_bn1")
            b.add("relu")
            b.add("add", b.conv(4, id=f"layer{stage}_{k}_conv2"), source)
    network = make_network(b.graph(), 0)
    structure = structured(tidy(network).graph)
    assert "layer2.1.bn1.running_mean" in structure.places.values()
    assert structure.ids["layer2_1_bn1"] == "layer2_1_bn1"
    check_structure(network)


def test_single_blocks_are_written_out() -> None:
    b = Builder(3, 8, 8)
    source = b.conv(4)
    b.add("relu")
    b.conv(4)
    b.add("add", b.last, source)
    assert "class Network" in structured(b.graph()).source and structured(b.graph()).source.count("class ") == 1


def test_attributes_do_not_take_names_of_containers() -> None:
    b = Builder(3, 8, 8)
    b.conv(4, id="stage1")
    for _ in range(2):
        source = b.last
        b.add("relu")
        b.conv(4)
        b.add("add", b.conv(4), source)
    b.add("add", b.add("adaptive_avg_pool2d"), b.last)
    network = make_network(b.graph(), 0)
    check_structure(network)
    check_structure(tidy(network))


def test_text_is_laid_out_as_formatters_do(tmp_path: Path) -> None:
    for name, make in NETS.items():
        text = structured(tidy(make_network(make(), 0)).graph).source
        assert max(map(len, text.splitlines())) <= 120
        (tmp_path / f"{name}.py").write_text(text)
    ruff = [sys.executable, "-m", "ruff", "format", "--diff", "--isolated", "--line-length=120", "--no-cache"]
    done = subprocess.run([*ruff, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


# -------------------------------------------------------------------------------------------------------------- files


@pytest.fixture
def exported(tmp_path: Path) -> tuple[Network, Path]:
    network = make_network(NETS["resnet20"](), 0, dtype=torch.float32)
    return export(network, tmp_path / "out").network, tmp_path / "out"


def test_exporting_again_gives_the_same_files(exported: tuple[Network, Path], tmp_path: Path) -> None:
    _, folder = exported
    export(rlnas.load(folder), tmp_path / "again")
    for name in ("model.py", "graph.json"):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    assert rlnas.load(folder).content_hash == rlnas.load(tmp_path / "again").content_hash


def test_weights_that_the_exported_module_saves_are_read(exported: tuple[Network, Path]) -> None:
    network, folder = exported
    file = folder / "weights.safetensors"
    state = load_file(file)
    assert "stage2.0.conv1.weight" in state and "stage2_0_conv1.weight" in network.tensors
    trained = {name: tensor + 1 for name, tensor in state.items()}
    save_file(trained, file)
    found = rlnas.load(folder)
    assert torch.equal(found.tensors["stage2_0_conv1.weight"], trained["stage2.0.conv1.weight"])
    assert found.graph.to_json() == network.graph.to_json() and found.history == ()


def test_source_that_gives_something_else_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(graph: Graph) -> Structure:
        right = structured(graph)
        return replace(right, source=right.source.replace("y + x", "y - x").replace("x + y", "x - y"))

    monkeypatch.setattr("rlnas.interchange.python.structured", wrong)
    network = make_network(NETS["resnet20"](), 0)
    export(network, tmp_path)
    assert "y - x" not in (tmp_path / "model.py").read_text()
    assert tidy(network).module().state_dict().keys() == load_file(tmp_path / "weights.safetensors").keys()
