"""Networks out: the folder that needs nothing of ours."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rlnas
from rlnas.errors import GraphError
from rlnas.graph import Graph
from rlnas.interchange import tidy, write_model
from rlnas.operators import OPERATORS
from rlnas.spaces import conv_stages
from tests.graphs import graphs
from tests.operators.sameness import check_exact, generator, make_inputs, make_network


@given(graph=graphs(), seed=st.integers(0, 100))
@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_tidying_renames_and_nothing_else(graph: Graph, seed: int) -> None:
    network = make_network(graph, seed)
    neat = tidy(network)
    assert neat.graph.key == graph.key
    check_exact(network, neat, make_inputs(graph, seed), tolerance=0.0)
    assert tidy(neat).graph == neat.graph


def test_written_model_gives_the_same_and_is_replaced_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = make_network(conv_stages((1, 8, 8), 10), 0, dtype=torch.float32)
    site = OPERATORS["insert_residual"].sites(network.graph)[0]
    grown = OPERATORS["insert_residual"].apply(network, site, generator=generator(0))
    for each in (network, grown):
        write_model(each, tmp_path / "best", inputs="8x8 images", outputs="10 logits")
    assert sorted(p.name for p in (tmp_path / "best").iterdir()) == ["graph.json", "model.py", "weights.safetensors"]
    monkeypatch.syspath_prepend(str(tmp_path / "best"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    import model  # type: ignore[import-not-found]

    inputs = make_inputs(grown.graph, 1, dtype=torch.float32)
    with torch.no_grad():
        expected = grown.module().eval()(inputs)
        assert torch.equal(model.load(str(tmp_path / "best" / "weights.safetensors"))(inputs), expected)
        assert torch.equal(rlnas.load(tmp_path / "best").module().eval()(inputs), expected)
    assert "rlnas" not in (tmp_path / "best" / "model.py").read_text().split('"""')[2]


def test_damaged_folders_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match="no network in"):
        rlnas.load(tmp_path)
    network = make_network(conv_stages((1, 8, 8), 10), 0)
    network.save(tmp_path)
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(GraphError, match="not a stored network") as caught:
        rlnas.load(tmp_path)
    assert "\n" not in str(caught.value)
    make_network(conv_stages((1, 8, 8), 10, width=4), 0).save(tmp_path / "other")
    weights.write_bytes((tmp_path / "other" / "weights.safetensors").read_bytes())
    with pytest.raises(GraphError, match="shape"):
        rlnas.load(tmp_path)
    (tmp_path / "graph.json").write_text("{")
    with pytest.raises(GraphError, match="not JSON"):
        rlnas.load(tmp_path)
