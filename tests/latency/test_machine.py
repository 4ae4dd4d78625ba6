"""Exclusive use of the machine, and what is said of a busy one."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from rlnas.errors import MeterError
from rlnas.latency.machine import Usage, exclusive, lock_path, processor_name
from tests.cli.running import REPOSITORY

HOLD = """
import sys
from rlnas.latency.machine import exclusive
with exclusive("cpu", wait_s=1):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def no_wait(seconds: float) -> None:
    pass


def test_one_after_the_other() -> None:
    for _ in range(2):
        with exclusive("cpu", wait_s=0):
            pass
    with exclusive("cpu", wait_s=0), exclusive("cuda", wait_s=0):
        pass


def test_two_at_once_is_an_error_that_names_the_other() -> None:
    second = exclusive("cpu", wait_s=3, sleep=no_wait)
    with exclusive("cpu", wait_s=0), pytest.raises(MeterError) as caught:
        second.__enter__()
    said = str(caught.value)
    assert said.startswith(f"process {os.getpid()} has been measuring") and "more than 3 s" in said
    assert str(lock_path("cpu")) in said and "\n" not in said


def test_waiting_ends_when_the_other_does() -> None:
    first = exclusive("cpu", wait_s=0)
    first.__enter__()
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            first.__exit__(None, None, None)

    with exclusive("cpu", wait_s=60, sleep=sleep):
        assert len(waits) == 3


def test_another_process_is_kept_out_until_it_is_killed(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "TMPDIR": str(tmp_path)}
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    with other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(MeterError, match=f"process {other.pid} has been measuring"), exclusive("cpu", wait_s=0):
            pass
        other.kill()
        other.wait()
        with exclusive("cpu", wait_s=5):
            pass


def test_a_lock_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    lock_path("cpu").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MeterError, match="cannot lock cpu for measuring"), exclusive("cpu", wait_s=0):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_devices_have_locks_of_their_own() -> None:
    names = {lock_path(name).name for name in ("cpu", "cuda", "command ssh a", "command ssh b", "command ssh/a")}
    assert len(names) == 5 and all("/" not in name for name in names)


def test_busy_is_what_other_processes_used() -> None:
    before = Usage(10.0, 1.0, 2.0, 100.0)
    calm, busy, unknown = (Usage(12.0, 3.0, 4.0, machine) for machine in (102.1, 104.0, None))
    assert before.busy(calm) is None
    assert before.busy(busy) == f"busy machine: other processes used 1.0 of {os.cpu_count()} cores meanwhile"
    assert before.others(unknown) is None and before.busy(unknown) is None
    assert before.others(before) is None


def test_the_readings_are_those_of_this_machine() -> None:
    before = Usage.now()
    sum(range(200_000))
    later = Usage.now()
    assert later.thread > before.thread and later.wall > before.wall
    assert processor_name()
