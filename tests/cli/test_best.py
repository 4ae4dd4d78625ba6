"""What is written into a run's best folder at its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from rlnas.cli import final
from rlnas.errors import ExportError
from rlnas.interchange import Exported, export
from rlnas.network import Network
from rlnas.spaces import conv_stages
from rlnas.tasks import load_task

NETWORK = Network.initialize(conv_stages((1, 8, 8), 10), generator=torch.Generator().manual_seed(0))
FILES = {"graph.json", "model.py", "weights.safetensors"}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_with_onnx(tmp_path: Path) -> None:
    network, excuse = final._written(NETWORK, tmp_path, load_task("digits"))
    assert excuse is None and names(tmp_path) == {*FILES, "model.onnx"}
    assert network.graph.key == NETWORK.graph.key
    assert "logits of 10 classes" in (tmp_path / "model.py").read_text()


def test_without_the_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(final, "onnx_excuse", lambda: "onnx is not installed")
    assert final._written(NETWORK, tmp_path, load_task("digits"))[1] == "onnx is not installed"
    assert names(tmp_path) == FILES


def test_a_network_that_onnx_cannot_hold_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(network: Network, folder: Path, **options: Any) -> Exported:
        if "onnx" in options.get("formats", ()):
            raise ExportError("PyTorch's exporter does not know this")
        return export(network, folder, **options)

    monkeypatch.setattr(final, "export", failing)
    assert final._written(NETWORK, tmp_path, load_task("digits"))[1] == "PyTorch's exporter does not know this"
    assert names(tmp_path) == FILES
