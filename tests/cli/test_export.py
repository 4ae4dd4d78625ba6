"""``rlnas export``: files that need nothing of ours."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import rlnas
from tests.cli.inside import IMAGE, Inside

ALONE = """
import sys
sys.modules['rlnas'] = None
sys.path.insert(0, '.')
import torch
from model import load
torch.save(load()(torch.load('x.pt')), 'y.pt')
print(sorted(name for name in sys.modules if name in ('rlnas', 'safetensors', 'numpy.typing', 'gymnasium')))
"""


def test_the_files_stand_alone(inside: Inside) -> None:
    text = inside("export", "net.py:Net", *IMAGE, "--to", "out")
    names = ["graph.json", "model.onnx", "model.py", "weights.safetensors"]
    assert sorted(path.name for path in Path("out").iterdir()) == names
    assert all(f"out/{name} " in text for name in names)
    assert "ONNX Runtime against PyTorch: largest difference" in text
    inputs = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.save(inputs, "out/x.pt")
    done = subprocess.run([sys.executable, "-I", "-c", ALONE], cwd="out", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        assert torch.equal(torch.load("out/y.pt"), rlnas.load("out").module().eval()(inputs))


@pytest.mark.parametrize(
    ("formats", "expected"),
    [
        ("python", {"model.py", "weights.safetensors"}),
        ("safetensors", {"weights.safetensors"}),
        ("graph", {"graph.json"}),
        ("onnx", {"model.onnx"}),
        ("graph, safetensors", {"graph.json", "weights.safetensors"}),
    ],
)
def test_formats(inside: Inside, formats: str, expected: set[str]) -> None:
    inside("export", "net.py:Net", *IMAGE, "--formats", formats, "--to", "out")
    assert {path.name for path in Path("out").iterdir()} == expected
    if "weights.safetensors" in expected:
        assert len(load_file("out/weights.safetensors")) == 11


def test_input_of_a_run_is_said_in_the_source(inside: Inside) -> None:
    inside("export", "net.py:Net", *IMAGE, "--to", "run/best", "--formats", "graph,safetensors")
    Path("run/best/metrics.json").write_text('{"input": "8x8 digits, pixel / 16"}')
    inside("export", "run", "--to", "out", "--formats", "python")
    assert "Input: 8x8 digits, pixel / 16.\n" in Path("out/model.py").read_text()


def test_simplified(inside: Inside) -> None:
    text = inside("export", "net.py:Net", *IMAGE, "--to", "out", "--formats", "python,graph", "--simplify")
    network = rlnas.load("out")
    assert not [node for node in network.graph.nodes if node.op == "batch_norm2d"]
    assert "BatchNorm" not in Path("out/model.py").read_text()
    assert "simplified: 1 thing taken out\n" in text and "(exact in eval mode)" in text
    assert re.search(rf"parameters +{network.graph.n_params + 8} -> +{network.graph.n_params} ", text)
    again = inside("export", "out", "--to", "again", "--formats", "graph,safetensors", "--simplify")
    assert "simplified: 0 things taken out\n" in again and rlnas.load("again").content_hash == network.content_hash


def test_without_onnx(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *_: None if name.startswith("onnx") else find(name))
    text = inside("export", "net.py:Net", *IMAGE, "--to", "out")
    assert "no model.onnx: ONNX needs onnx, onnxscript, onnxruntime" in text and "pip install 'rlnas[onnx]'" in text
    assert not Path("out/model.onnx").exists() and Path("out/model.py").exists()
    line = inside.fails("export", "net.py:Net", *IMAGE, "--to", "other", "--formats", "onnx")
    assert "pip install 'rlnas[onnx]'" in line and not Path("other").exists()


def test_nothing_is_lost_without_force(inside: Inside) -> None:
    inside("export", "net.py:Net", *IMAGE, "--to", "out")
    before = Path("out/model.onnx").read_bytes()
    line = inside.fails("export", "net.py:Net(3)", *IMAGE, "--to", "out")
    assert "out holds a network already (graph.json, model.onnx, model.py, weights.safetensors); --force" in line
    assert Path("out/model.onnx").read_bytes() == before
    inside("export", "net.py:Net(3)", *IMAGE, "--to", "out", "--force", "--formats", "python")
    assert {path.name for path in Path("out").iterdir()} == {"model.py", "weights.safetensors"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission(inside: Inside) -> None:
    Path("locked").mkdir(mode=0o500)
    assert "cannot write into locked" in inside.fails("export", "net.py:Net", *IMAGE, "--to", "locked/out")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--to", "a", "--formats", "onx"), ["'onx'", "'onnx'"]),
        (("--to", "a", "--formats", ","), ["names no format"]),
        (("--to", "net.py"), ["net.py is a file"]),
        (("--to", "net.py/sub"), ["cannot write into net.py/sub"]),
        ((), ["--to"]),
    ],
)
def test_mistakes(inside: Inside, words: tuple[str, ...], expected: list[str]) -> None:
    line = inside.fails("export", "net.py:Net", *IMAGE, *words)
    for word in expected:
        assert word in line, line
    assert not Path("a").exists()
