"""Run the command line inside this process, for commands that take no time."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from rlnas.cli.main import main

NET = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, n_classes=10, width=4):
        super().__init__()
        self.first = nn.Conv2d(1, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.head = nn.Linear(width, n_classes)

    def forward(self, x):
        x = torch.relu(self.norm(self.first(x)))
        x = torch.relu(self.second(x))
        return self.head(x.mean((2, 3)))


class Tokens(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Embedding(7, 4), nn.LayerNorm(4), nn.Linear(4, 3))


def make(width):
    return Net(width=width)


ready = Net(3)
number = 3
"""
"""A person's file."""

IMAGE = ("--input", "1,1,8,8")


@dataclass(frozen=True)
class Done:
    """What a command left."""

    status: int
    out: str
    err: str


class Inside:
    """Runs commands, in the folder where the test is."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: str) -> str:
        """What a command prints; it must go well."""
        done = self.run(*words)
        assert (done.status, done.err) == (0, ""), done.err
        return done.out

    def fails(self, *words: str) -> str:
        """The one line in which a command refuses."""
        done = self.run(*words)
        assert done.status == 2 and done.out == "", done
        assert done.err.count("\n") == 1 and done.err.startswith("rlnas: error: "), done.err
        return done.err

    def run(self, *words: str) -> Done:
        """Run a command."""
        with pytest.raises(SystemExit) as leaving:
            main([*words])
        captured = self._capsys.readouterr()
        return Done(int(str(leaving.value.code)), captured.out, captured.err)
