"""The digits task: sizes, scale, balance, and a split that stays as it is."""

from __future__ import annotations

import subprocess
import sys

import torch

from rlnas.tasks import load_task

KEY = "86bc36811cf726fa9e93bd5a85bbadb3"
"""Of the default split. It is part of every cached result: a change of it throws all of them away."""


def test_sizes_shape_and_scale() -> None:
    task = load_task("digits")
    assert [len(split) for split in (task.train, task.validation, task.test)] == [1000, 400, 397]
    assert task.input_shape == (1, 8, 8) and task.n_classes == 10
    assert float(task.train.inputs.min()) == 0.0 and float(task.train.inputs.max()) == 1.0


def test_classes_keep_their_shares() -> None:
    task = load_task("digits")
    for split in (task.train, task.validation, task.test):
        counts = split.targets.bincount(minlength=10)
        assert float((counts / len(split) - 0.1).abs().max()) < 0.01


def test_the_default_split_never_changes() -> None:
    assert load_task("digits").key == KEY


def test_a_smaller_training_split_leaves_the_others_alone() -> None:
    whole, small = load_task("digits"), load_task("digits", train_size=100)
    assert torch.equal(whole.train.inputs[:100], small.train.inputs)
    assert torch.equal(whole.validation.inputs, small.validation.inputs)
    assert torch.equal(whole.test.targets, small.test.targets)
    assert whole.key != small.key
    assert sorted(small.train.targets.bincount().tolist())[0] >= 9


def test_split_seed_draws_another_split() -> None:
    assert load_task("digits", split_seed=1).key != KEY


def test_scikit_learn_is_loaded_only_for_the_digits() -> None:
    code = "import rlnas.tasks, sys; assert 'sklearn' not in sys.modules, 'loaded'"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
