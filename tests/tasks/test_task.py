"""What every task promises, on the registry; and the arithmetic of splitting, loss and accuracy by hand."""

from __future__ import annotations

import dataclasses
import math
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from rlnas.errors import ConfigError
from rlnas.tasks import TASKS, Split, Task, load_task, make_task
from rlnas.tasks.fashion_mnist import DEBIAN_FOLDER
from rlnas.tasks.splitting import check_sizes, stratified_cuts


@pytest.fixture(params=sorted(TASKS))
def task(request: pytest.FixtureRequest, tmp_path: Path) -> Task:
    if request.param == "npz":
        images = np.random.default_rng(0).integers(0, 256, (60, 6, 5), dtype=np.uint8)
        np.savez(tmp_path / "mine.npz", x_train=images, y_train=np.arange(60) % 3)
        return load_task("npz", path=tmp_path / "mine.npz")
    if request.param == "fashion_mnist":
        if not DEBIAN_FOLDER.is_dir():
            pytest.skip("the Debian package dataset-fashion-mnist is not installed")
        return load_task("fashion_mnist", resolution=14, train_size=500, validation_size=200)
    return load_task(request.param)


def test_every_task_keeps_the_contract(task: Task) -> None:
    assert task.name in TASKS
    for split in (task.train, task.validation, task.test):
        assert split.inputs.dtype == torch.float32
        assert tuple(split.inputs.shape) == (len(split), *task.input_shape)
        assert split.targets.dtype == torch.int64 and split.targets.shape == (len(split),)
        assert torch.isfinite(split.inputs).all()
        assert int(split.targets.min()) >= 0 and int(split.targets.max()) < task.n_classes
    assert len(task.input_shape) == 3
    assert set(task.train.targets.tolist()) == set(range(task.n_classes))
    assert f"(N, {', '.join(map(str, task.input_shape))})" in task.input_description
    assert torch.equal(task.calibration(7), task.train.inputs[:7])
    assert len(task.calibration()) == min(256, len(task.train))


def test_splits_share_no_example(task: Task) -> None:
    seen = Counter(
        name
        for name, split in (("train", task.train), ("validation", task.validation), ("test", task.test))
        for _ in {x.numpy().tobytes() for x in split.inputs}
    )
    together = {x.numpy().tobytes() for s in (task.train, task.validation, task.test) for x in s.inputs}
    duplicates_in_the_data = 45 if task.name == "fashion_mnist" else 0
    assert seen.total() - len(together) <= duplicates_in_the_data


def test_a_task_survives_the_way_to_a_worker(task: Task) -> None:
    copy = pickle.loads(pickle.dumps(task))
    assert copy.key == task.key
    assert torch.equal(copy.test.inputs, task.test.inputs)


def test_loading_neither_reads_nor_moves_global_random_state() -> None:
    np.random.seed(1)
    torch.manual_seed(1)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    first = load_task("digits")
    assert np.array_equal(before[0], np.random.get_state()[1])
    assert torch.equal(before[1], torch.get_rng_state())
    np.random.seed(2)
    torch.manual_seed(2)
    assert load_task("digits").key == first.key


def test_key_tells_content_order_split_and_name_apart() -> None:
    def build(name: str = "toy", train: tuple[int, ...] = (0, 1), value: float = 0.0, n_classes: int = 2) -> str:
        inputs = torch.arange(2 * 4, dtype=torch.float32).reshape(2, 1, 2, 2)
        split = Split(inputs=inputs[list(train)], targets=torch.tensor(train))
        other = Split(inputs=inputs + value, targets=torch.tensor([0, 1]))
        task = make_task(name, train=split, validation=other, test=other, n_classes=n_classes, input_description="")
        return task.key

    keys = [build(), build("other"), build(train=(1, 0)), build(value=1e-6), build(n_classes=3)]
    assert len(set(keys)) == len(keys)
    assert build() == keys[0]


def test_loss_and_accuracy_by_hand() -> None:
    task = load_task("digits", train_size=50)
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0], [1.0, 0.0]])
    targets = torch.tensor([0, 1, 1, 0])
    assert task.accuracy(logits, targets) == 0.75
    expected = (math.log1p(math.exp(-2)) + 2 * math.log1p(math.exp(-1)) + math.log1p(math.exp(3))) / 4
    assert float(task.loss(logits, targets)) == pytest.approx(expected, rel=1e-6)


def test_a_task_is_frozen() -> None:
    task = load_task("digits", train_size=50)
    with pytest.raises(dataclasses.FrozenInstanceError):
        task.name = "mine"  # type: ignore[misc]


@pytest.mark.parametrize("seed", [0, 1, 17])
def test_cuts_are_disjoint_and_keep_shares(seed: int) -> None:
    targets = np.repeat([0, 1, 2], [100, 37, 11])
    parts = stratified_cuts(targets, (60, 40, 30), seed=seed)
    assert [len(part) for part in parts] == [60, 40, 30]
    together = np.concatenate(parts)
    assert len(np.unique(together)) == len(together)
    for part in parts:
        for label, count in ((0, 100), (1, 37), (2, 11)):
            assert abs((targets[part] == label).sum() - len(part) * count / 148) <= 2


def test_cuts_follow_the_seed_alone() -> None:
    targets = np.arange(50) % 5
    [first], [again], [other] = (stratified_cuts(targets, (20,), seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first[:5].tolist() == [12, 39, 31, 28, 45]


def test_too_large_parts_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"train_size=8 \+ validation_size=3 is more than the 10 examples in toy"):
        check_sizes(10, "toy", train_size=8, validation_size=3)


def test_unknown_task_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"unknown task 'digit'.*'digits'.*digits, fashion_mnist, npz"):
        load_task("digit")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("digits", {"path": "x"}, r"unknown option of task digits: 'path'.*Known: split_seed, train_size"),
        ("digits", {"trainsize": 5}, r"'trainsize'.*Did you mean 'train_size'"),
        ("digits", {"train_size": "many"}, r"train_size='many' must be a whole number of at least 10"),
        ("digits", {"train_size": 1001}, r"train_size=1001 is more than the 1000 examples"),
        ("digits", {"split_seed": -1}, r"split_seed=-1"),
        ("digits", {"split_seed": True}, r"split_seed=True"),
        ("fashion_mnist", {"resolution": 20}, r"resolution=20 must be one of 28, 14"),
        ("fashion_mnist", {"validation_size": 0}, r"validation_size=0"),
        ("fashion_mnist", {"path": 5}, r"path=5 must be the name of a file or folder"),
        ("npz", {}, r"task npz needs the option 'path'"),
        ("npz", {"path": None}, r"task npz needs the option 'path'"),
        ("npz", {"path": 5}, r"path=5 must be the name"),
        ("npz", {"path": "x.npz", "channels_last": "no"}, r"channels_last='no' must be true or false"),
    ],
)
def test_impossible_options_are_named(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_task(name, **options)
    assert "\n" not in str(caught.value)
