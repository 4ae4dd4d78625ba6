"""A search from a network of a person's own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from rlnas.network import Network
from rlnas.tasks import load_task
from tests.cli.running import rlnas
from tests.cli.test_errors import fails
from tests.cli.test_train import DETERMINISTIC, evaluations

SOURCE = '''"""A person's own network."""

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, classes=10, width=6):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.body = nn.Conv2d(width, width, 3, padding=1)
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        x = self.stem(x)
        x = torch.relu(x + self.body(x))
        return self.head(x.mean(dim=(2, 3)))
'''
WORDS = (
    *(*DETERMINISTIC, "--evaluations=4", "--evaluation.workers=0", "--controller.name=random"),
    *("--final.random_baseline=False", "--final.candidates=1", "--final.seeds=1", "--final.epochs=0.3"),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(SOURCE)
    return tmp_path


def test_search_from_a_module_with_its_weights(folder: Path) -> None:
    """Weights are the module's, the run keeps its start, and resuming needs the code no more."""
    namespace: dict[str, object] = {}
    exec(SOURCE, namespace)
    torch.manual_seed(3)
    module = namespace["Net"]().eval()  # type: ignore[operator]
    torch.save(module.state_dict(), folder / "net.pt")
    start = ("--space.start=net.py:Net", "--space.start_weights=net.pt", "--evaluation.start_epochs=0")
    done = rlnas("train", *WORDS, *start, "--run.name=own", folder=folder)
    assert done.returncode == 0, done.stderr
    run = folder / "runs" / "own"
    inputs = load_task("digits").train.inputs[:4]
    with torch.no_grad():
        assert torch.equal(Network.load(run / "start").module().eval()(inputs), module(inputs))
    assert len(evaluations(run)) == 4
    assert json.loads((run / "best" / "metrics.json").read_text())["n_params"] > 0

    shutil.rmtree(run / "best")
    (folder / "net.py").unlink()
    again = rlnas("resume", "runs/own", folder=folder)
    assert again.returncode == 0, again.stderr

    shutil.rmtree(run / "start")
    lost = rlnas("resume", "runs/own", folder=folder)
    assert lost.returncode == 2 and "runs/own/start is missing" in lost.stderr and lost.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--space.start=net.py:Nett"], ["no Nett", "did you mean Net"]),
        (["--space.start=nowhere"], ["there is no nowhere"]),
        (["--space.start=net.py"], ["net.py:Net"]),
        (["--space.start=net.py:Net(3)"], ["(3,)", "digits", "(10,)"]),
        (["--space.start=net.py:Net", "--space.start_weights=none.pt"], ["none.pt"]),
        (["--space.start_weights=net.pt"], ["space.start=net.py:Net"]),
        (["--evaluation.start_epochs=0"], ["start_epochs=0", "space.start"]),
    ],
)
def test_mistakes(
    words: list[str],
    expected: list[str],
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr("signal.signal", lambda *_: None)  # the command runs inside this process
    line = fails(["train", *WORDS, *words], folder, capsys)
    assert all(part in line for part in expected), line
