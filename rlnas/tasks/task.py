"""What a task is: three splits of a data set, the loss that trains a network on it, the accuracy that judges it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, eq=False)
class Split:
    """Examples of one split.

    Attributes:
        inputs: float32, shape (N, C, H, W).
        targets: int64, shape (N,): the class of each example.
    """

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True, eq=False)
class Task:
    """A classification task. The search sees ``train`` and ``validation``; ``test`` is for the final report alone.

    Attributes:
        name: Name in the registry of tasks.
        train: What candidates are trained on.
        validation: What candidates are judged by during a search.
        test: What the final report scores, once.
        n_classes: Number of classes.
        key: Hash of the name and of every split's content; equal data and splits have equal keys, on any machine.
        input_description: How raw data become inputs, in words.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    n_classes: int
    key: str
    input_description: str

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input: (C, H, W)."""
        return tuple(self.train.inputs.shape[1:])

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy, a scalar, of logits of shape (N, n_classes)."""
        return F.cross_entropy(logits, targets)

    def accuracy(self, logits: Tensor, targets: Tensor) -> float:
        """Share of examples whose largest logit is the target's, from 0 to 1."""
        return float((logits.argmax(dim=1) == targets).double().mean())

    def calibration(self, n: int = 256) -> Tensor:
        """The first ``n`` training inputs, or all of them where there are fewer."""
        return self.train.inputs[:n]


def make_task(
    name: str, *, train: Split, validation: Split, test: Split, n_classes: int, input_description: str
) -> Task:
    """A task with its key computed from the splits."""
    digest = hashlib.blake2b(f"{name} {n_classes}".encode(), digest_size=16)
    for label, split in (("train", train), ("validation", validation), ("test", test)):
        assert split.inputs.dtype == torch.float32 and split.targets.dtype == torch.int64
        assert split.inputs.shape[1:] == train.inputs.shape[1:] and split.targets.shape == split.inputs.shape[:1]
        digest.update(f" {label} {tuple(split.inputs.shape)} ".encode())
        digest.update(split.inputs.contiguous().numpy().data)
        digest.update(split.targets.contiguous().numpy().data)
    return Task(
        name=name,
        train=train,
        validation=validation,
        test=test,
        n_classes=n_classes,
        key=digest.hexdigest(),
        input_description=input_description,
    )
