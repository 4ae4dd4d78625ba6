"""A person's own arrays: what is taken, how it is split, and the one line that each mistake gets."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlnas.errors import ConfigError, TaskError
from rlnas.tasks import Task, load_task

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (60, 6, 5), dtype=np.uint8)
LABELS = np.arange(60) % 3


def write(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "mine.npz", **arrays)
    return folder / "mine.npz"


def load_arrays(folder: Path, options: dict[str, Any] | None = None, **arrays: Any) -> Task:
    return load_task("npz", path=write(folder, **arrays), **(options or {}))


def test_missing_splits_are_cut_by_class(tmp_path: Path) -> None:
    task = load_arrays(tmp_path, x_train=GREY, y_train=LABELS)
    assert [len(split) for split in (task.train, task.validation, task.test)] == [36, 12, 12]
    assert task.input_shape == (1, 6, 5) and task.n_classes == 3
    for split in (task.train, task.validation, task.test):
        assert split.targets.bincount().tolist() == [len(split) // 3] * 3
    whole = {(image / np.float32(255)).tobytes() for image in GREY.astype(np.float32)}
    found = [x.numpy().tobytes() for s in (task.train, task.validation, task.test) for x in s.inputs]
    assert len(found) == 60 and set(found) == whole


def test_inputs_keep_their_labels(tmp_path: Path) -> None:
    images = np.broadcast_to(np.arange(60, dtype=np.float32)[:, None, None], (60, 4, 4))
    task = load_arrays(tmp_path, x_train=images, y_train=LABELS)
    for split in (task.train, task.validation, task.test):
        assert torch.equal(split.inputs[:, 0, 0, 0].long() % 3, split.targets)


def test_given_splits_are_taken_as_they_are(tmp_path: Path) -> None:
    arrays = {f"{kind}_{split}": data for split in ("train", "test") for kind, data in (("x", GREY), ("y", LABELS))}
    task = load_arrays(tmp_path, **arrays)
    assert [len(split) for split in (task.train, task.validation, task.test)] == [48, 12, 60]
    assert torch.equal(task.test.targets, torch.from_numpy(LABELS))
    arrays |= {"x_validation": GREY[:9], "y_validation": LABELS[:9]}
    task = load_arrays(tmp_path, **arrays)
    assert [len(split) for split in (task.train, task.validation, task.test)] == [60, 9, 60]
    assert torch.equal(task.train.targets, torch.from_numpy(LABELS))


def test_sizes_as_numbers_and_shares(tmp_path: Path) -> None:
    arrays = {"x_train": GREY, "y_train": LABELS}
    task = load_arrays(tmp_path, {"validation_size": 0.1, "test_size": 15}, **arrays)
    assert [len(split) for split in (task.train, task.validation, task.test)] == [39, 6, 15]
    other = load_arrays(tmp_path, {"validation_size": 0.1, "test_size": 15, "split_seed": 1}, **arrays)
    assert other.key != task.key


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_are_not_scaled(tmp_path: Path, dtype: type) -> None:
    images = (RNG.standard_normal((60, 2, 4, 4)) * 100).astype(dtype)
    task = load_arrays(tmp_path, x_train=images, y_train=LABELS)
    assert task.input_shape == (2, 4, 4) and "values as they are" in task.input_description
    found = torch.cat([task.train.inputs, task.validation.inputs, task.test.inputs]).sum(dtype=torch.float64)
    assert float(found) == pytest.approx(float(images.astype(np.float32).astype(np.float64).sum()), rel=1e-6)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, np.uint64])
def test_labels_of_any_whole_type(tmp_path: Path, dtype: type) -> None:
    assert load_arrays(tmp_path, x_train=GREY, y_train=LABELS.astype(dtype)).n_classes == 3


def test_channels_last_on_request(tmp_path: Path) -> None:
    images = RNG.integers(0, 256, (60, 8, 7, 3), dtype=np.uint8)
    last = load_arrays(tmp_path, {"channels_last": True}, x_train=images, y_train=LABELS)
    first = load_arrays(tmp_path, x_train=images.transpose(0, 3, 1, 2), y_train=LABELS)
    assert last.input_shape == (3, 8, 7) and last.key == first.key
    assert last.train.inputs.is_contiguous()
    with pytest.raises(TaskError, match=r"shape \(60, 8, 7, 3\), which looks like channels last; set .* channels_last"):
        load_arrays(tmp_path, x_train=images, y_train=LABELS)
    kept = load_arrays(tmp_path, {"channels_last": False}, x_train=images, y_train=LABELS)
    assert kept.input_shape == (8, 7, 3)


def test_compressed_files_and_further_arrays_are_fine(tmp_path: Path) -> None:
    key = load_arrays(tmp_path, x_train=GREY, y_train=LABELS).key
    np.savez_compressed(tmp_path / "mine.npz", x_train=GREY, y_train=LABELS, class_names=np.array(["a", "b", "c"]))
    assert load_task("npz", path=tmp_path / "mine.npz").key == key


def with_label(value: Any, dtype: Any = np.int64) -> Any:
    labels = LABELS.astype(dtype)
    labels[7] = value
    return labels


BROKEN = GREY.astype(np.float32)
BROKEN[41, 0, 0] = np.nan


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y_train": LABELS}, r"has no array 'x_train'; it holds y_train"),
        ({"x_train": GREY}, r"has no array 'y_train'; it holds x_train"),
        ({}, r"has no array 'x_train'; it holds nothing"),
        ({"X_train": GREY, "y_train": LABELS}, r"has no array 'x_train'; it holds X_train, y_train"),
        ({"x_train": GREY, "y_train": LABELS, "x_test": GREY}, r"has no array 'y_test'"),
        (
            {"x_train": GREY, "y_train": LABELS, "x_valid": GREY},
            r"'x_valid'; the names known are x_train, y_train, x_v",
        ),
        ({"x_train": GREY.reshape(60, 30), "y_train": LABELS}, r"shape \(60, 30\); expected \(N, H, W\) or"),
        ({"x_train": GREY[:, :0], "y_train": LABELS}, r"shape \(60, 0, 5\)"),
        ({"x_train": GREY[:0], "y_train": LABELS[:0]}, r"shape \(0, 6, 5\)"),
        ({"x_train": GREY.astype(np.int32), "y_train": LABELS}, r"of type int32; expected uint8"),
        ({"x_train": GREY > 9, "y_train": LABELS}, r"of type bool; expected uint8"),
        ({"x_train": BROKEN, "y_train": LABELS}, r"x_train of .* NaN, infinity or .* first in example 41"),
        ({"x_train": GREY * 1e300, "y_train": LABELS}, r"a number beyond float32"),
        ({"x_train": GREY, "y_train": LABELS * 1.0}, r"y_train of .* is float64 of shape \(60,\); expected whole"),
        ({"x_train": GREY, "y_train": np.eye(3, dtype=int)[LABELS]}, r"of shape \(60, 3\); expected whole numbers"),
        ({"x_train": GREY, "y_train": LABELS[:59]}, r"60 inputs in x_train but 59 labels in y_train"),
        ({"x_train": GREY, "y_train": with_label(-1)}, r"goes from -1 to 2; expected classes 0, 1, 2"),
        ({"x_train": GREY, "y_train": with_label(2**63, np.uint64)}, r"goes from 0 to 9223372036854775808"),
        ({"x_train": GREY, "y_train": LABELS + 1}, r"goes up to 3 but has no example of class 0"),
        ({"x_train": GREY, "y_train": with_label(10**9)}, r"goes up to 1000000000 but has no example of class 3"),
        ({"x_train": GREY, "y_train": LABELS * 0}, r"holds one class only"),
        ({"x_train": GREY[:2], "y_train": LABELS[:2]}, r"too few training examples: 2, of which"),
        (
            {"x_train": GREY, "y_train": LABELS, "x_test": GREY[:, :4], "y_test": LABELS},
            r"inputs of \(1, 6, 5\) in x_train but \(1, 4, 5\) in x_test",
        ),
        (
            {"x_train": GREY, "y_train": LABELS, "x_test": GREY, "y_test": LABELS + 1},
            r"y_test of .* holds class 3, which y_train has no example of",
        ),
        (
            {"x_train": GREY.astype(object), "y_train": LABELS},
            r"'x_train' of .* object array, .*pickles are never opened",
        ),
    ],
)
def test_unusable_arrays_are_named(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskError, match=message) as caught:
        load_arrays(tmp_path, **arrays)
    assert "mine.npz" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test_size": 5}, r"test_size=5: .* holds its own x_test, so nothing is cut"),
        ({"validation_size": 1.5}, r"validation_size=1\.5 must be a whole number"),
        ({"validation_size": 0}, r"validation_size=0"),
        ({"channels_last": True}, r"channels_last=True: .* has shape \(60, 6, 5\), without channels"),
    ],
)
def test_options_that_do_not_fit_the_file(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_arrays(tmp_path, options, x_train=GREY, y_train=LABELS, x_test=GREY, y_test=LABELS)


def test_a_class_that_cutting_uses_up(tmp_path: Path) -> None:
    labels = np.array([1, 1, 1, 1, 0, 1, 1, 1, 1, 1])
    with pytest.raises(TaskError, match=r"too few examples of class 0: none is left for training"):
        load_arrays(tmp_path, {"validation_size": 4, "test_size": 4}, x_train=GREY[:10], y_train=labels)


def test_more_cut_than_there_is(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"too few training examples: 60, of which 12 for test and 59 for validation"):
        load_arrays(tmp_path, {"validation_size": 59}, x_train=GREY, y_train=LABELS)


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    trap = np.empty(60, dtype=object)
    trap[:] = [Trap(sprung)] * 60
    with pytest.raises(TaskError, match="pickles are never opened"):
        load_arrays(tmp_path, x_train=trap, y_train=LABELS)
    (tmp_path / "mine.npz").write_bytes(pickle.dumps(Trap(sprung)))
    with pytest.raises(TaskError, match=r"mine\.npz is damaged or no \.npz file"):
        load_task("npz", path=tmp_path / "mine.npz")
    assert not sprung.exists()


@pytest.mark.parametrize("damage", ["empty", "text", "half", "single array", "flipped"])
def test_damaged_files_are_named(tmp_path: Path, damage: str) -> None:
    file = write(tmp_path, x_train=GREY, y_train=LABELS)
    data = file.read_bytes()
    match damage:
        case "empty":
            file.write_bytes(b"")
        case "text":
            file.write_text("x_train: 1\n")
        case "half":
            file.write_bytes(data[: len(data) // 2])
        case "single array":
            with file.open("wb") as stream:
                np.save(stream, GREY)
        case "flipped":
            middle = data.index(GREY.tobytes()) + 100
            file.write_bytes(data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :])
    with pytest.raises(TaskError, match=r"mine\.npz (is damaged|holds a single array)") as caught:
        load_task("npz", path=file)
    assert "\n" not in str(caught.value)


def test_missing_file_and_a_folder_in_its_place(tmp_path: Path) -> None:
    for wrong in (tmp_path / "absent.npz", tmp_path):
        with pytest.raises(TaskError, match=r"is not a file; task\.path must name an \.npz file"):
            load_task("npz", path=wrong)
