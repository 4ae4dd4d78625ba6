"""The meter that runs a command, with stub scripts in the place of a device."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from rlnas.errors import MeterError
from rlnas.interchange import onnx_excuse
from rlnas.latency import CommandMeter
from tests.latency.fakes import network

STUB = """
import json, pathlib, sys, time
model, weights, batch_size = sys.argv[1:4]
text = pathlib.Path(model).read_text()
assert "class Network" in text and pathlib.Path(weights).stat().st_size > 0
print("warming up")
for i in range(9):
    print(f" {float(batch_size) + i / 10} ms")
"""


def script(folder: Path, text: str) -> str:
    path = folder / "stub script.py"
    path.write_text(text)
    return f"{sys.executable} '{path}'"


def fails(command: str, **settings: float) -> str:
    with pytest.raises(MeterError) as caught:
        CommandMeter(command=command, **settings).measure([network()])  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_numbers_alone_on_a_line_are_samples(tmp_path: Path) -> None:
    command = script(tmp_path, STUB) + " {python} {weights} {batch_size}"
    (latency,) = CommandMeter(command=command, batch_size=3, repeats=2).measure([network()])
    assert latency.ms == pytest.approx(3.4) and latency.n == 18 and latency.warnings == ()
    assert latency.low_ms < 3.4 < latency.high_ms


def test_few_samples_are_said_to_be_few(tmp_path: Path) -> None:
    (latency,) = CommandMeter(command=script(tmp_path, "print(2.5)")).measure([network()])
    assert (latency.ms, latency.low_ms, latency.high_ms, latency.n) == (2.5, 2.5, 2.5, 1)
    assert latency.warnings[0].startswith("few samples")


@pytest.mark.skipif(onnx_excuse() is not None, reason="needs the extra onnx")
def test_onnx_files_are_there_while_the_command_runs_and_gone_afterwards(tmp_path: Path) -> None:
    text = "import sys, pathlib; p = pathlib.Path(sys.argv[1]); assert p.stat().st_size > 100; "
    text += f"pathlib.Path({str(tmp_path / 'seen')!r}).write_text(str(p)); print(1.5)"
    (latency,) = CommandMeter(command=script(tmp_path, text) + " {onnx}").measure([network()])
    assert latency.ms == 1.5
    assert not Path((tmp_path / "seen").read_text()).exists()


def test_a_time_out_ends_the_command_and_what_it_started(tmp_path: Path) -> None:
    child = f"import time, pathlib; time.sleep(4); pathlib.Path({str(tmp_path / 'late')!r}).touch()"
    text = f"""
import subprocess, sys
print("measuring", flush=True)
subprocess.run([sys.executable, "-c", {child!r}])
"""
    begun = time.monotonic()
    said = fails(script(tmp_path, text), timeout_s=1.5)
    assert "did not end within timeout_s=1.5 seconds; it printed: measuring" in said
    assert time.monotonic() - begun < 60
    time.sleep(3.5)
    assert not (tmp_path / "late").exists()


def test_an_exit_status_is_an_error_with_what_was_printed(tmp_path: Path) -> None:
    said = fails(script(tmp_path, "import sys; print(3.0); sys.exit('no such\\ndevice')"))
    assert "ended with status 1; it printed: no such device 3.0" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("print('took 3.2 milliseconds')", "printed no milliseconds (a number alone on a line); it printed: took 3.2"),
        ("pass", "it printed nothing"),
        ("print(0)", "printed 0, which is no latency"),
        ("print(-1.5)", "printed -1.5, which is no latency"),
        ("print('1e999')", "printed inf, which is no latency"),
        ("print('nan')", "printed no milliseconds"),
        ("import sys; sys.stdout.buffer.write(bytes(range(128, 256)))", "printed no milliseconds"),
    ],
)
def test_garbage_is_an_error_with_what_was_printed(text: str, said: str, tmp_path: Path) -> None:
    assert said in fails(script(tmp_path, text))


def test_long_output_is_cut(tmp_path: Path) -> None:
    assert len(fails(script(tmp_path, "print('x' * 10_000)"))) < 500


def test_a_command_that_is_not_there() -> None:
    assert "cannot run no-such-command-at-all: No such file" in fails("no-such-command-at-all")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("", "needs a command"),
        ("measure {onx}", "holds {onx}; known: {onnx}, {python}, {weights}, {batch_size}"),
        ("measure {}", "holds {}"),
        ("measure {onnx", "cannot be understood"),
        ("measure 'x", "cannot be understood"),
    ],
)
def test_commands_that_make_no_sense_are_refused_at_once(command: str, said: str) -> None:
    with pytest.raises(MeterError) as caught:
        CommandMeter(command=command)
    assert said in str(caught.value)


@pytest.mark.parametrize("settings", [{"batch_size": 0}, {"repeats": 0}, {"timeout_s": 0}, {"timeout_s": float("nan")}])
def test_arguments_that_make_no_sense_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(MeterError, match=next(iter(settings))):
        CommandMeter(command="echo 1", **settings)  # type: ignore[arg-type]


def test_braces_can_be_written(tmp_path: Path) -> None:
    command = script(tmp_path, "import json, sys; print(json.loads(sys.argv[1])['ms'])") + """ '{{"ms": 4.5}}'"""
    assert CommandMeter(command=command).measure([network()])[0].ms == 4.5
