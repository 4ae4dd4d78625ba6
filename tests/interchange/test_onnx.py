"""ONNX files give what PyTorch gives, at any batch size."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlnas.errors import ExportError
from rlnas.interchange import onnx, write_onnx
from rlnas.network import Network, example_inputs
from rlnas.spaces import conv_stages
from tests.cli.running import environment
from tests.graph.examples import EXAMPLES, example
from tests.nets import NETS


def build(graph: Any) -> Network:
    return Network.initialize(graph, generator=torch.Generator().manual_seed(0))


def run(path: Path, inputs: torch.Tensor) -> np.ndarray[Any, Any]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (given,), (made,) = session.get_inputs(), session.get_outputs()
    assert (given.name, made.name) == ("input", "output")
    assert given.shape[0] == made.shape[0] and given.shape[1:] == list(inputs.shape[1:])
    return np.asarray(session.run(None, {"input": inputs.numpy()})[0])


def compare(network: Network, path: Path, n: int, seed: int = 5) -> None:
    inputs = example_inputs(network.graph, n, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        expected = network.module().eval()(inputs).numpy()
    assert np.abs(run(path, inputs) - expected).max() <= 1e-5 * np.abs(expected).max()


def test_a_small_network_at_any_batch_size(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    network = build(conv_stages((1, 8, 8), 10))
    difference = write_onnx(network, tmp_path / "made" / "model.onnx")
    assert 0 < difference < 1e-5
    assert [p.name for p in (tmp_path / "made").iterdir()] == ["model.onnx"]
    for n in (1, 2, 17):
        compare(network, tmp_path / "made" / "model.onnx", n)
    assert capfd.readouterr() == ("", "")


def test_a_fixed_batch_size(tmp_path: Path) -> None:
    network = build(conv_stages((1, 8, 8), 10)).to(torch.float64)
    write_onnx(network, tmp_path / "model.onnx", batch=4)
    compare(network.to(torch.float32), tmp_path / "model.onnx", 4)
    with pytest.raises(Exception, match="invalid dimensions"):
        compare(network.to(torch.float32), tmp_path / "model.onnx", 3)
    with pytest.raises(ExportError, match="at least 1"):
        write_onnx(network, tmp_path / "model.onnx", batch=0)


@pytest.mark.parametrize("name", [n if n == "vit" else pytest.param(n, marks=pytest.mark.slow) for n in NETS])
def test_networks(name: str, tmp_path: Path) -> None:
    network = build(NETS[name]())
    assert write_onnx(network, tmp_path / "model.onnx") < 1e-5
    compare(network, tmp_path / "model.onnx", 5)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_every_op(name: str, tmp_path: Path) -> None:
    assert write_onnx(build(example(name)), tmp_path / "model.onnx") < 1e-5


def test_a_file_that_computes_something_else_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, other = (build(conv_stages((1, 4, 4), 3, stages=1, width=w)) for w in (2, 3))
    path = tmp_path / "model.onnx"
    path.write_bytes(b"older")
    written = onnx._export(other.module().eval(), torch.zeros(2, 1, 4, 4), free=True)
    monkeypatch.setattr(onnx, "_export", lambda *_, **__: written)
    with pytest.raises(ExportError, match="differ"):
        write_onnx(network, path)
    assert path.read_bytes() == b"older"


def test_an_op_that_the_exporter_does_not_know(tmp_path: Path) -> None:
    from tests.graphs import Builder

    b = Builder(3, 3)
    b.add("opaque", text="torch.linalg.eigvals({0}).real", shape=(3,))
    with pytest.raises(ExportError, match="exporter cannot") as caught:
        write_onnx(build(b.graph()), tmp_path / "model.onnx")
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else find(name))
    with pytest.raises(ExportError, match=r"needs onnxscript, .*rlnas\[onnx\]"):
        write_onnx(build(conv_stages((1, 8, 8), 10)), tmp_path / "model.onnx")


def test_nothing_of_onnx_is_loaded_before_it_is_asked_for(tmp_path: Path) -> None:
    code = "import sys, rlnas.interchange; assert not {'onnx', 'onnxruntime', 'onnxscript'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=environment(tmp_path), check=False)
    assert done.returncode == 0
