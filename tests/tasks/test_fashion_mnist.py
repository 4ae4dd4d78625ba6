"""Fashion-MNIST from small files of the same form, every kind of damage to them, and the real ones where installed."""

from __future__ import annotations

import gzip
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rlnas.errors import ConfigError, TaskError
from rlnas.tasks import fashion_mnist, load_task

TRAIN_IMAGES = "train-images-idx3-ubyte.gz"
TRAIN_LABELS = "train-labels-idx1-ubyte.gz"


def idx(array: NDArray[np.uint8]) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path / "fashion"
    folder.mkdir()
    for prefix, count in (("train", 200), ("t10k", 50)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images), 1))
        (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels), 1))
    return folder


def load_small(folder: Path, **options: object) -> fashion_mnist.Task:
    return load_task("fashion_mnist", path=folder, **{"validation_size": 40, **options})


def test_splits(folder: Path) -> None:
    task = load_small(folder)
    assert [len(split) for split in (task.train, task.validation, task.test)] == [160, 40, 50]
    assert task.validation.targets.bincount().tolist() == [4] * 10
    assert torch.equal(task.test.targets, torch.arange(50) % 10)
    raw = gzip.decompress((folder / "t10k-images-idx3-ubyte.gz").read_bytes())[16:]
    first = np.frombuffer(raw, dtype=np.uint8)[: 28 * 28].reshape(1, 28, 28).astype(np.float32)
    assert np.array_equal(task.test.inputs[0].numpy(), first / np.float32(255))


def test_plain_files_give_the_same_task(folder: Path) -> None:
    key = load_small(folder).key
    for file in list(folder.iterdir()):
        file.with_suffix("").write_bytes(gzip.decompress(file.read_bytes()))
        file.unlink()
    assert load_small(folder).key == key


def test_resolution_14_averages_four_pixels(folder: Path) -> None:
    full, half = load_small(folder), load_small(folder, resolution=14)
    assert half.input_shape == (1, 14, 14)
    expected = full.train.inputs[:, :, 2:4, 4:6].mean(dim=(2, 3))
    torch.testing.assert_close(half.train.inputs[:, :, 1, 2], expected)
    assert "averaged over 2x2" in half.input_description and full.key != half.key


def test_train_size_and_split_seed(folder: Path) -> None:
    task = load_small(folder, train_size=30)
    assert len(task.train) == 30 and len(task.validation) == 40
    assert torch.equal(task.validation.inputs, load_small(folder).validation.inputs)
    assert not torch.equal(task.validation.inputs, load_small(folder, split_seed=1).validation.inputs)
    with pytest.raises(ConfigError, match=r"train_size=161 \+ validation_size=40 is more than the 200 examples"):
        load_small(folder, train_size=161)
    with pytest.raises(ConfigError, match=r"validation_size=200 is more than"):
        load_small(folder, validation_size=200)


def test_without_a_path_the_debian_folder_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", folder)
    assert load_task("fashion_mnist", validation_size=40).key == load_small(folder).key
    shutil.rmtree(folder)
    with pytest.raises(TaskError, match=r"install the Debian package dataset-fashion-mnist, or set task\.path"):
        load_task("fashion_mnist")


@pytest.mark.skipif(not fashion_mnist.DEBIAN_FOLDER.is_dir(), reason="dataset-fashion-mnist is not installed")
def test_the_real_data() -> None:
    task = load_task("fashion_mnist", train_size=1000)
    assert task.train.targets.bincount().tolist() == [100] * 10
    assert task.test.targets.bincount().tolist() == [1000] * 10
    assert task.test.targets[:5].tolist() == [9, 2, 1, 1, 6]
    assert float(task.test.inputs.mean()) == pytest.approx(0.2868, abs=1e-4)


def truncate(data: bytes) -> bytes:
    return data[: len(data) // 2]


def inside(edit: object) -> object:
    return lambda data: gzip.compress(edit(gzip.decompress(data)), 1)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        (TRAIN_IMAGES, truncate, r"cut short: its gzip stream has no end"),
        (TRAIN_IMAGES, lambda data: b"<html>" + data, r"is not a sound gzip file"),
        (TRAIN_IMAGES, lambda data: data[:-8] + b"\0\0\0\0" + data[-4:], r"is not a sound gzip file \(CRC"),
        (TRAIN_IMAGES, lambda data: data[:40] + b"\xff" * 40 + data[80:], r"is not a sound gzip file"),
        (TRAIN_IMAGES, inside(lambda raw: raw[:-1]), r"cut short: 156799 of 156800 bytes"),
        (TRAIN_IMAGES, inside(lambda raw: raw + b"\0"), r"damaged: it goes on after the 200 examples"),
        (TRAIN_IMAGES, inside(lambda raw: b""), r"begins with nothing, not 00000803"),
        (TRAIN_IMAGES, inside(lambda raw: raw[:9]), r"cut short in its header"),
        (TRAIN_IMAGES, inside(lambda raw: b"\0\0\x0d\x03" + raw[4:]), r"begins with 00000d03, not 00000803"),
        (TRAIN_IMAGES, inside(lambda raw: raw[:4] + b"\xff" * 4 + raw[8:]), r"claims to hold 4294967295 examples"),
        (TRAIN_IMAGES, lambda data: gzip.compress(idx(np.zeros((9, 32, 32), np.uint8))), r"images of 32x32 pixels"),
        (TRAIN_LABELS, lambda data: gzip.compress(idx(np.zeros(9, np.uint8))), r"holds 200 images but .* 9 labels"),
        (
            TRAIN_LABELS,
            lambda data: gzip.compress(idx(np.arange(200, dtype=np.uint8) % 11)),
            r"expected each of 0 to 9",
        ),
        (TRAIN_LABELS, lambda data: gzip.compress(idx(np.zeros(200, np.uint8))), r"holds the labels \[0\]"),
        (TRAIN_LABELS, lambda data: None, r"has neither train-labels-idx1-ubyte\.gz nor train-labels-idx1-ubyte;"),
    ],
)
def test_damage_is_named(folder: Path, name: str, damage: object, message: str) -> None:
    file = folder / name
    data = damage(file.read_bytes())  # type: ignore[operator]
    file.unlink()
    if data is not None:
        file.write_bytes(data)
    with pytest.raises(TaskError, match=message) as caught:
        load_small(folder)
    assert name.removesuffix(".gz") in str(caught.value) and "\n" not in str(caught.value)


def test_missing_folder_and_a_file_in_its_place(folder: Path) -> None:
    for wrong in (folder / "absent", folder / TRAIN_IMAGES):
        with pytest.raises(TaskError, match=r"is not a folder; task\.path must name the folder with Fashion-MNIST's"):
            load_small(wrong)
