import multiprocessing
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from rlnas.errors import StoreError
from rlnas.evaluation import Record, Store
from rlnas.latency import Latency

RECORD = Record(
    cache_key="k0",
    graph="{}",
    graph_key="g0",
    start_id="s0",
    edits="[]",
    task_key="t0",
    recipe="{}",
    seed=2**63 - 1,
    status="ok",
    reason=None,
    accuracy=0.1 + 0.2,
    n_params=1,
    macs=2,
    peak_memory_bytes=3,
    cost_s=0.5,
    training=(10.0, 11.0),
    worker="process 1",
)
FAILED = replace(RECORD, cache_key="bad", status="failed", reason="worker died", accuracy=None, cost_s=None)


def record(i):
    return replace(RECORD, cache_key=f"k{i}")


@pytest.fixture(params=["file", "memory"])
def store(request, tmp_path):
    with Store(tmp_path / "new" / "store.sqlite" if request.param == "file" else None) as store:
        yield store


def test_rows_come_back_as_they_were(store):
    assert store.get("k0") is None and store.count() == 0 and list(store.rows()) == []
    store.put(RECORD)
    store.put(FAILED)
    assert store.get("k0") == RECORD and store.get("bad") == FAILED
    assert [row.cache_key for row in store.rows()] == ["k0", "bad"] and store.count() == 2
    assert RECORD.metrics.accuracy == 0.1 + 0.2 and FAILED.metrics is None


def test_the_first_of_two_results_stays(store):
    store.put(RECORD)
    store.put(replace(RECORD, accuracy=0.9))
    assert store.get("k0") == RECORD and store.count() == 1


def test_latency_is_added_later_and_replaced(store):
    store.put(RECORD)
    for ms in (0.5, 0.25):
        store.set_latency("k0", Latency(ms, ms - 0.1, ms + 0.1, 30), meter="{}", interval=(12.0, 13.0))
    row = store.get("k0")
    assert (row.latency_ms, row.latency_interval_ms, row.latency_n) == (0.25, (0.15, 0.35), 30)
    assert (row.meter, row.measuring) == ("{}", (12.0, 13.0))
    assert row.metrics.latency_ms == 0.25 and row.accuracy == RECORD.accuracy


def test_notes(store):
    assert store.note("a") is None
    store.set_note("a", "1")
    store.set_note("a", "2")
    assert store.note("a") == "2"


def test_closing_loses_nothing(store):
    store.put(RECORD)
    store.close()
    assert store.get("k0") == RECORD


def test_nothing_is_opened_before_it_is_needed(tmp_path):
    Store(tmp_path / "a" / "store.sqlite")
    assert not (tmp_path / "a").exists()


def test_a_copy_opens_the_file_anew(tmp_path):
    with Store(tmp_path / "store.sqlite") as store:
        store.put(RECORD)
        with pickle.loads(pickle.dumps(store)) as copy:
            assert copy.get("k0") == RECORD
            copy.put(record(1))
        assert store.count() == 2
    in_memory = Store()
    in_memory.put(RECORD)
    assert pickle.loads(pickle.dumps(in_memory)).count() == 0


def test_read_only(tmp_path):
    path = tmp_path / "store.sqlite"
    with pytest.raises(StoreError, match="does not exist"):
        Store(path, read_only=True).count()
    assert not path.exists()
    with Store(path) as writer, Store(path, read_only=True) as reader:
        writer.put(RECORD)
        assert reader.get("k0") == RECORD
        writer.put(record(1))
        assert reader.count() == 2
        with pytest.raises(StoreError, match="readonly"):
            reader.put(record(2))


def one_line(error, path):
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_what_is_no_database(tmp_path):
    path = tmp_path / "store.sqlite"
    path.write_text("these are notes, not a database\n" * 100)
    for call in (Store.count, lambda store: store.put(RECORD)):
        with pytest.raises(StoreError, match="not a database") as error:
            call(Store(path))
        one_line(error, path)
    assert path.read_text().startswith("these are notes")


def test_a_damaged_database(tmp_path):
    path = tmp_path / "store.sqlite"
    with Store(path) as store:
        for i in range(200):
            store.put(record(i))
    data = bytearray(path.read_bytes())
    data[4096 : len(data)] = b"\xff" * (len(data) - 4096)
    path.write_bytes(bytes(data))
    with pytest.raises(StoreError, match="not readable as a database") as error:
        list(Store(path).rows())
    one_line(error, path)


def test_a_database_of_another_program(tmp_path):
    path = tmp_path / "store.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.commit()
    connection.close()
    for read_only in (False, True):
        with pytest.raises(StoreError, match="of another program") as error:
            Store(path, read_only=read_only).count()
        one_line(error, path)


def test_a_store_of_a_newer_version(tmp_path):
    path = tmp_path / "store.sqlite"
    with Store(path) as store:
        store.put(RECORD)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.commit()
    connection.close()
    with pytest.raises(StoreError, match=r"has the format 99.*update rlnas") as error:
        Store(path).get("k0")
    one_line(error, path)


FIRST_FORMAT = """
CREATE TABLE evaluations (id INTEGER PRIMARY KEY, cache_key TEXT NOT NULL UNIQUE, graph TEXT NOT NULL,
    graph_key TEXT NOT NULL, start_id TEXT NOT NULL, edits TEXT NOT NULL, task_key TEXT NOT NULL, recipe TEXT NOT NULL,
    seed INTEGER NOT NULL, status TEXT NOT NULL, reason TEXT, accuracy REAL, n_params INTEGER NOT NULL,
    macs INTEGER NOT NULL, peak_memory_bytes INTEGER NOT NULL, cost_s REAL, training_started_at REAL NOT NULL,
    training_finished_at REAL NOT NULL, worker TEXT NOT NULL, latency_ms REAL, latency_low_ms REAL,
    latency_high_ms REAL, latency_n INTEGER, meter TEXT, measuring_started_at REAL, measuring_finished_at REAL);
CREATE TABLE notes (key TEXT PRIMARY KEY, value TEXT NOT NULL);
INSERT INTO evaluations VALUES (1, 'k0', '{}', 'g0', 's0', '[]', 't0', '{}', 9223372036854775807, 'ok', NULL,
    0.30000000000000004, 1, 2, 3, 0.5, 10.0, 11.0, 'process 1', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO notes VALUES ('a', '1');
PRAGMA journal_mode = WAL;
PRAGMA user_version = 1;
PRAGMA application_id = 1917731155
"""


def test_a_store_of_the_first_format_is_read_as_it_is_and_brought_up_to_date_to_be_written(tmp_path):
    path = tmp_path / "store.sqlite"
    connection = sqlite3.connect(path)
    connection.executescript(FIRST_FORMAT)
    connection.close()
    with Store(path, read_only=True) as old:
        assert list(old.rows()) == [RECORD] and old.note("a") == "1" and old.weights("w") is None
    assert sqlite3.connect(path).execute("PRAGMA user_version").fetchone() == (1,)
    with Store(path, weights_mb=1) as store, Store(path) as beside:
        assert store.get("k0") == beside.get("k0") == RECORD and store.note("a") == "1"
        later = replace(record(1), parent="p", environment="{}", tries=2, weights="w", run="r")
        store.put(later, b"data")
        assert store.get("k1") == later and store.weights("w") == b"data"
    assert sqlite3.connect(path).execute("PRAGMA user_version").fetchone() == (2,)


def weighing(name, **rest):
    return replace(RECORD, cache_key=f"key {name}", weights=name, **rest)


def test_weights_are_kept_within_a_size_and_the_least_recently_useful_go_first(tmp_path):
    with Store(tmp_path / "store.sqlite", weights_mb=0.0035) as store:
        store.put(weighing("best"), b"b" * 1000)
        store.protect("best", owner="run 1")
        for name in ("x", "y"):
            store.put(weighing(name), name.encode() * 1000)
        assert store.weights("x") == b"x" * 1000  # now y is the one that was useful longest ago
        store.put(weighing("z"), b"z" * 1000)
        assert {n for n in ("best", "x", "y", "z") if store.weights(n) is not None} == {"best", "x", "z"}
        store.put(weighing("huge"), b"h" * 4000)
        assert store.weights("huge") is None and store.weights("x") is not None
        store.protect("x", owner="run 1")  # in the place of the one before
        for name in ("u", "v"):
            store.put(weighing(name), name.encode() * 1000)
        assert {n for n in ("best", "x", "z", "u", "v") if store.weights(n) is not None} == {"x", "u", "v"}
        assert store.count() == 7  # rows stay
    with Store(tmp_path / "store.sqlite", read_only=True) as reader:
        assert reader.weights("x") == b"x" * 1000


def test_weights_that_several_evaluations_share_are_kept_once(tmp_path):
    with Store(tmp_path / "store.sqlite", weights_mb=1) as store:
        assert store.put(replace(record(1), weights="same"), b"w" * 1000)
        assert store.put(replace(record(2), weights="same"), b"w" * 1000)
        assert not store.put(replace(record(2), weights="other"), b"o")
        assert store.weights("other") is None
        assert store._connection.execute("SELECT count(*), sum(size) FROM weights").fetchone()[:] == (1, 1000)


def test_without_a_size_no_weights_are_kept(store):
    store.put(weighing("w"), b"w")
    assert store.weights("w") is None


def test_rows_that_come_while_reading_come_too(tmp_path, monkeypatch):
    monkeypatch.setattr("rlnas.evaluation.store.PAGE", 2)
    with Store(tmp_path / "store.sqlite") as store:
        for i in range(3):
            store.put(record(i))
        rows = store.rows()
        assert next(rows).cache_key == "k0"
        store.put(record(3))
        assert [row.cache_key for row in rows] == ["k1", "k2", "k3"]


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "store.sqlite"
    with pytest.raises(StoreError) as error:
        Store(path).put(RECORD)
    one_line(error, path)
    with pytest.raises(StoreError, match="cannot be opened") as error:
        Store(tmp_path).put(RECORD)
    one_line(error, tmp_path)


def test_a_full_disk_is_one_line_and_what_was_stored_stays(tmp_path):
    path = tmp_path / "store.sqlite"
    with Store(path) as store:
        store.put(RECORD)
        store._connection.execute("PRAGMA max_page_count = 12")
        with pytest.raises(StoreError, match="is the disk full") as error:
            for i in range(1, 1000):
                store.put(record(i))
        one_line(error, path)
        stored = store.count()
        assert 0 < stored < 1000
    with Store(path) as store:
        assert store.count() == stored
        store.put(record(5000))
        assert store.count() == stored + 1


WRITER = """
import sys
from dataclasses import replace
from rlnas.evaluation import Store
from tests.evaluation.test_store import RECORD
store = Store(sys.argv[1])
for i in range(1_000_000):
    store.put(replace(RECORD, cache_key=f"{sys.argv[2]}{i}"))
    print(i, flush=True)
"""


def write_for_ever(path, name):
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_kill_9_loses_nothing_that_was_put_and_readers_and_writers_go_side_by_side(tmp_path):
    path = tmp_path / "store.sqlite"
    writers = {name: write_for_ever(path, name) for name in "ab"}  # both may also create the file
    try:
        for writer in writers.values():
            assert writer.stdout.readline().strip() == "0", writer.stderr.read()
        with Store(path) as reader:
            first = reader.count()
            deadline = time.monotonic() + 10
            while reader.count() < first + 20 and time.monotonic() < deadline:
                time.sleep(0.01)
            assert reader.count() >= first + 20
    finally:
        for writer in writers.values():
            os.kill(writer.pid, signal.SIGKILL)
    promised = {name: max(map(int, writer.communicate()[0].split()), default=0) for name, writer in writers.items()}
    assert max(promised.values()) >= 10
    with Store(path) as store:
        keys = {row.cache_key for row in store.rows()}
        for name, last in promised.items():
            assert {f"{name}{i}" for i in range(last + 1)} <= keys
        store.put(record("after"))
        assert store.get("kafter") is not None


def count_in_child(store, queue):
    store.put(replace(RECORD, cache_key="child"))
    queue.put(store.count())


def test_a_forked_process_opens_its_own_connection(tmp_path):
    with Store(tmp_path / "store.sqlite") as store:
        store.put(RECORD)
        context = multiprocessing.get_context("fork")
        queue = context.SimpleQueue()
        child = context.Process(target=count_in_child, args=(store, queue))
        child.start()
        assert queue.get() == 2
        child.join()
        store.put(record(2))
        assert store.count() == 3


def test_bookkeeping_takes_no_more_steps_in_a_large_store(tmp_path):
    with Store(tmp_path / "store.sqlite") as store:
        store.put(RECORD)
        few = steps_of_bookkeeping(store, "few")
        row = record("x").to_row()
        marks = ", ".join("?" * len(row))
        with store._connection as connection:
            connection.executemany(
                f"INSERT INTO evaluations ({', '.join(row)}) VALUES ({marks})",
                [tuple(record(f"-{i}").to_row().values()) for i in range(10_000)],
            )
        assert 0 < steps_of_bookkeeping(store, "many") < 2 * few


def steps_of_bookkeeping(store: Store, key: str) -> int:
    """How many instructions SQLite's virtual machine executes to put a record and to get it."""
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    store._connection.set_progress_handler(count, 1)
    store.put(record(key))
    assert store.get(f"k{key}") is not None
    store._connection.set_progress_handler(None, 0)
    return steps
