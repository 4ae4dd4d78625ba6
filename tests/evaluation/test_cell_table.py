"""NAS-Bench-201 from a file of arrays and from the official folder, which is read without running anything."""

from __future__ import annotations

import bz2
import itertools
import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlnas.errors import ConfigError, EvaluationError
from rlnas.evaluation import CellTable, load_nas_bench_201
from rlnas.evaluation.nats_bench import META, StandIn, read_pickle
from rlnas.spaces import cell_text, nas_bench_201_space
from rlnas.spaces.nas_bench_201 import CELL_OPS, parse_cell
from tests.spaces.test_nas_bench_201 import ALL3, CONV1, DATA, POOL, SKIP, text

SPACE = nas_bench_201_space()
EVERY = [cell_text(ops) for ops in itertools.product(CELL_OPS, repeat=6)]


def write(path: Path, *, cells: list[str] | None = None, seed: int = 0, **columns: np.ndarray) -> Path:
    """A file of the published form with random numbers, its cells in a random order."""
    generator = np.random.default_rng(seed)
    named = list(EVERY if cells is None else cells)
    generator.shuffle(named)
    made = {
        "cifar10_val_ep12": generator.uniform(10, 90, len(named)).astype(np.float32),
        "cifar10_test_ep200": generator.uniform(10, 90, len(named)).astype(np.float32),
        "lat_ms_raspi4": generator.uniform(0, 50, len(named)).astype(np.float32),
        "lat_ms_fpga": generator.uniform(0, 5, len(named)).astype(np.float32),
        "cifar10_params": generator.integers(1, 10**6, len(named)),
    }
    np.savez(path, arch=np.array(named).astype("S"), ops=np.zeros((len(named), 6), np.int8), **made | columns)
    return path


def test_cells_have_names_and_numbers() -> None:
    assert SPACE.size == 15_625 and list(SPACE.choices(range(5))) == ["0->1", "0->2", "1->2", "0->3", "1->3"]
    for number in (0, 1, 77, 15_624):
        ops = [CELL_OPS[choice] for choice in SPACE.assignment(number)]
        assert list(parse_cell(cell_text(ops))) == ops and cell_text(ops) == EVERY[number]


def test_columns_come_in_the_order_of_the_space(tmp_path: Path) -> None:
    path = write(tmp_path / "nasbench201.npz")
    table = load_nas_bench_201(path)
    with np.load(path) as data:
        row = int(np.flatnonzero(data["arch"] == ALL3.encode())[0])
        number = SPACE.number([CELL_OPS.index("nor_conv_3x3")] * 6)
        assert table.cells[number] == ALL3
        for name in ("cifar10_val_ep12", "lat_ms_fpga", "cifar10_params"):
            assert table.column(name)[number] == data[name][row]
        assert table.accuracy("cifar10", "val", epochs=12)[number] == pytest.approx(data["cifar10_val_ep12"][row] / 100)
    assert table.datasets == ("cifar10",) and set(table.devices) == {"raspi4", "fpga"}
    assert "ops" not in table.columns
    assert np.array_equal(load_nas_bench_201(tmp_path).column("lat_ms_fpga"), table.column("lat_ms_fpga"))


def test_faults_of_the_measurement_are_dropped_where_they_are_known(tmp_path: Path) -> None:
    table = load_nas_bench_201(write(tmp_path / "bench.npz"))
    for device, faulty in (("raspi4", True), ("fpga", False)):
        raw, latency = table.column(f"lat_ms_{device}"), table.latency_ms(device)
        assert (raw < 0.5).any() and np.array_equal(np.isnan(latency), (raw < 0.5) & faulty)


def test_the_path_may_be_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "nasbench201.npz")
    for value in (tmp_path, tmp_path / "nasbench201.npz"):
        monkeypatch.setenv("RLNAS_DATA", str(value))
        assert load_nas_bench_201().devices == ("raspi4", "fpga")
    monkeypatch.delenv("RLNAS_DATA")
    with pytest.raises(ConfigError, match="RLNAS_DATA"):
        load_nas_bench_201()


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    first = load_nas_bench_201(write(tmp_path / "bench.npz"))
    assert load_nas_bench_201(tmp_path / "bench.npz") is first
    write(tmp_path / "bench.npz", seed=1)
    os.utime(tmp_path / "bench.npz", ns=(1, 1))
    assert load_nas_bench_201(tmp_path / "bench.npz") is not first


def test_saved_columns_come_back(tmp_path: Path) -> None:
    table = load_nas_bench_201(write(tmp_path / "a.npz"))
    table.save(tmp_path / "b.npz")
    again = load_nas_bench_201(tmp_path / "b.npz")
    assert set(again.columns) == set(table.columns)
    assert all(np.array_equal(again.column(name), table.column(name)) for name in table.columns)
    with pytest.raises(EvaluationError, match="cannot write"):
        table.save(tmp_path / "no" / "b.npz")


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    table = load_nas_bench_201(write(tmp_path / "bench.npz"))
    with pytest.raises(ConfigError, match=r"data set 'cifar1'.* Did you mean 'cifar10'"):
        table.accuracy("cifar1", "val", epochs=12)
    with pytest.raises(ConfigError, match="unknown column"):
        table.accuracy("cifar10", "val", epochs=90)
    with pytest.raises(ConfigError, match="Did you mean 'raspi4'"):
        table.latency_ms("raspi3")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "cannot read NAS-Bench-201"),
        (lambda path: path.write_text("no"), "no file of arrays"),
        (lambda path: np.savez(path, a=np.ones(3)), "no column 'arch'"),
        (lambda path: write(path, cells=EVERY[:-1]), "1 of 15625 are missing"),
        (lambda path: write(path, cells=[*EVERY[:-1], EVERY[0]]), "names a cell twice"),
        (lambda path: write(path, cells=["|conv~0|+|none~0|none~1|+|none~0|none~1|none~2|"]), "no table of NAS"),
    ],
    ids=["missing", "text", "no cells", "few cells", "twice", "no cell"],
)
def test_damaged_files_are_refused_in_one_line(tmp_path: Path, make: Any, said: str) -> None:
    make(tmp_path / "bench.npz")
    with pytest.raises(EvaluationError) as caught:
        load_nas_bench_201(tmp_path / "bench.npz")
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_part_of_the_cells_will_do_if_one_says_so(tmp_path: Path) -> None:
    table = load_nas_bench_201(write(tmp_path / "bench.npz", cells=EVERY[:100]), partial=True)
    assert np.isfinite(table.column("cifar10_params")).sum() == 100


# ---------------------------------------------------------------------------------------------------- official files

TRAINED = {"cifar10-valid": ("x-valid", "ori-test"), "cifar10": ("ori-test",), "cifar100": ("x-valid", "x-test")}
CELLS = [text(*[SKIP] * 6), ALL3, text(POOL, CONV1, SKIP, CONV1, SKIP, SKIP)]


def trial(name: str, seed: int, epochs: int, base: float) -> dict[str, Any]:
    """What one training left behind, in the form of the official files."""
    places = [f"{kind}@{epoch}" for kind in TRAINED[name] for epoch in range(epochs)]
    return {
        "name": name,
        "net_state_dict": None,
        "train_acc1es": OrderedDict((e, 50.0) for e in range(epochs)),
        "train_acc5es": None,
        "train_losses": {},
        "train_times": OrderedDict((e, np.float64(2.0)) for e in range(epochs)),
        "arch_config": {"channel": 16, "num_cells": 5, "arch_str": "", "class_num": 10},
        "params": 0.129306,
        "flop": np.float32(15.64737),
        "seed": seed,
        "epochs": epochs,
        "latency": [0.014, 0.016],
        "eval_names": list(TRAINED[name]),
        "eval_acc1es": {p: base + seed + int(p.split("@")[1]) + 10 * ("test" in p) for p in places},
        "eval_times": {p: 3.0 if "valid" in p else 1.0 for p in places},
        "eval_losses": {},
    }


def official(folder: Path, *, cells: int = 3) -> Path:
    """A small folder of the official form."""
    folder.mkdir()
    dump(
        folder / META, {"meta_archs": EVERY_OFFICIAL, "total_archs": 4, "arch2infos": None, "evaluated_indexes": set()}
    )
    for index in range(cells):
        known = OrderedDict()
        for epochs, seeds in ((12, [1]), (200, [1, 2])):
            results = {(n, s): trial(n, s, epochs, 20.0 * index) for n in TRAINED for s in seeds}
            known[str(epochs)] = {
                "arch_index": index,
                "arch_str": CELLS[index],
                "all_results": results,
                "dataset_seed": {n: seeds for n in TRAINED},
                "clear_net_done": True,
            }
        dump(folder / f"{index:06d}.pickle.pbz2", known)
    return folder


EVERY_OFFICIAL = [*CELLS, EVERY[-1]]


def dump(path: Path, data: Any) -> None:
    path.write_bytes(bz2.compress(pickle.dumps(data, protocol=4)))


def test_official_files_are_read(tmp_path: Path) -> None:
    table = load_nas_bench_201(official(tmp_path / "NATS-tss-v1_0-3ffb9-simple"), partial=True)
    for index, cell in enumerate(CELLS):
        number = EVERY.index(cell)
        row = {name: float(values[number]) for name, values in table.columns.items()}
        base = 20 * index
        assert row == pytest.approx(
            {
                "cifar10_val_ep12": base + 1 + 11,
                "cifar10_test_ep12": base + 1 + 11 + 10,
                "cifar10_val_ep200": base + 1.5 + 199,
                "cifar10_test_ep200": base + 1.5 + 199 + 10,
                "cifar100_val_ep12": base + 1 + 11,
                "cifar100_test_ep12": base + 1 + 11 + 10,
                "cifar100_val_ep200": base + 1.5 + 199,
                "cifar100_test_ep200": base + 1.5 + 199 + 10,
                "cifar10_params": 129_306,
                "cifar100_params": 129_306,
                "cifar10_macs": 15_647_370,
                "cifar100_macs": 15_647_370,
                "lat_ms_nats_cifar10": 15.0,
                "lat_ms_nats_cifar100": 15.0,
                "cifar10_query_s": 12 * 2 + 3,
                "cifar100_query_s": 12 * 2 + 3,
            }
        )
    assert sum(np.isfinite(table.column("cifar10_val_ep12"))) == 3 and table.datasets == ("cifar100", "cifar10")
    table.save(tmp_path / "nasbench201.npz")
    again = load_nas_bench_201(tmp_path / "nasbench201.npz")
    assert all(np.array_equal(again.column(n), table.column(n), equal_nan=True) for n in table.columns)


def test_missing_and_damaged_official_files(tmp_path: Path) -> None:
    folder = official(tmp_path / "folder")
    with pytest.raises(EvaluationError, match="lacks the files of 1 of 4 cells"):
        load_nas_bench_201(folder)
    (folder / "000001.pickle.pbz2").write_bytes(b"no")
    with pytest.raises(EvaluationError, match="000001"):
        load_nas_bench_201(folder, partial=True)
    dump(folder / "000001.pickle.pbz2", {"12": {"dataset_seed": {"cifar10": [1]}}})
    with pytest.raises(EvaluationError, match="not of NATS-Bench's form"):
        load_nas_bench_201(folder, partial=True)
    dump(folder / META, {"meta_archs": None})
    with pytest.raises(EvaluationError, match="names no cells"):
        load_nas_bench_201(folder, partial=True)


class Evil:
    """Would make a file if it were unpickled in the usual way."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_nothing_in_a_pickle_is_run(tmp_path: Path) -> None:
    made = tmp_path / "made"
    dump(tmp_path / "evil.pbz2", {"a": Evil(made), "b": [1.5], "c": np.arange(3), "d": Path("x"), "e": print})
    read = read_pickle(tmp_path / "evil.pbz2")
    assert not made.exists() and read["b"] == [1.5] and isinstance(read["a"], StandIn)
    assert all(isinstance(read[key], StandIn | type) for key in "acde")
    pickle.loads(pickle.dumps(Evil(made)))
    assert made.exists()  # or the test would prove nothing


# ---------------------------------------------------------------------------------------------------- published data


@pytest.fixture(scope="module")
def published() -> CellTable:
    if not DATA.is_file():
        pytest.skip("needs the published data")
    return load_nas_bench_201(DATA)


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's, ties by their order, of which there are few."""
    return float(np.corrcoef(a.argsort().argsort(), b.argsort().argsort())[0, 1])


def test_published_figures(published: CellTable) -> None:
    for dataset, best, correlation in (("cifar10", 94.37, 0.77), ("cifar100", 73.51, 0.82)):
        test = 100 * published.accuracy(dataset, "test", epochs=200)
        assert test.max() == pytest.approx(best, abs=0.006)
        validation = published.accuracy(dataset, "val", epochs=12)
        assert rank_correlation(validation, test) == pytest.approx(correlation, abs=0.005)
    assert 100 * published.accuracy("cifar10", "test", epochs=200).mean() == pytest.approx(87.04, abs=0.02)
    assert len(published.devices) == 12 and published.datasets == ("cifar10", "cifar100")
