"""Latency on another device: whatever command measures there and prints milliseconds."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import string
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from rlnas.errors import ExportError, MeterError
from rlnas.interchange import export, write_onnx
from rlnas.latency.machine import exclusive
from rlnas.latency.meter import Latency
from rlnas.network import WEIGHTS_FILE, Network

PLACEHOLDERS: Final = ("onnx", "python", "weights", "batch_size")
NUMBER = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(?:ms)?\s*")
SHOWN = 200
FEWEST_FOR_AN_INTERVAL = 6


class CommandMeter:
    """Runs a command for each network and reads milliseconds from what it prints.

    Every line of its standard output that is a number, with or without ``ms``, is one sample; their median is the
    latency. Other lines are ignored, but at least one number has to be there. The command is run without a shell.

    Args:
        command: The command line, such as ``"ssh pi measure {onnx}"``. ``{onnx}`` stands for the path of an ONNX file
            of the network, ``{python}`` for one of its source, ``{weights}`` for one of its weights (safetensors),
            ``{batch_size}`` for the number of samples in a batch. The files are gone when the command has ended.
        batch_size: Samples in one batch.
        repeats: How often the command is run for one network.
        timeout_s: Seconds after which a run of the command is ended.
        wait_s: Seconds to wait for another process of this machine that measures with the same command.

    Raises:
        MeterError: If the command cannot be understood, or an argument is out of range.
    """

    deterministic = False

    def __init__(
        self,
        *,
        command: str,
        batch_size: int = 1,
        repeats: int = 1,
        timeout_s: float = 60.0,
        wait_s: float = 600.0,
    ) -> None:
        try:
            self._words = shlex.split(command)
            named = {
                name for word in self._words for _, name, _, _ in string.Formatter().parse(word) if name is not None
            }
        except ValueError as error:
            raise MeterError(f"the command {command!r} cannot be understood: {error}") from None
        if not self._words:
            raise MeterError(
                "the command meter needs a command that prints milliseconds, as in 'ssh pi measure {onnx}'"
            )
        if unknown := sorted(named - set(PLACEHOLDERS)):
            known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
            raise MeterError(f"the command {command!r} holds {{{unknown[0]}}}; known: {known}; write {{{{ for a brace")
        for name, value in (("batch_size", batch_size), ("repeats", repeats)):
            if value < 1:
                raise MeterError(f"{name}={value} must be at least 1")
        if not 0 < timeout_s <= 86_400:
            raise MeterError(f"timeout_s={timeout_s} must lie between 0 and 86400 seconds")
        self._command = command
        self._named = named
        self._batch_size = batch_size
        self._repeats = repeats
        self._timeout_s = timeout_s
        self._wait_s = wait_s

    @property
    def description(self) -> Mapping[str, Any]:
        """The command and its settings; what the device is only the command knows."""
        return {
            "meter": "command",
            "command": self._command,
            "batch_size": self._batch_size,
            "repeats": self._repeats,
        }

    def state(self) -> dict[str, float]:
        """Nothing: every number stands for itself."""
        return {}

    def restore(self, state: Mapping[str, float]) -> None:
        """Nothing to take over."""

    def measure(self, networks: Sequence[Network]) -> list[Latency]:
        """Latency of each network, one after the other.

        Raises:
            MeterError: If a network cannot be written in the form asked for, or the command does not end in time, ends
                with an error, or prints no milliseconds.
        """
        return [self._measure(network) for network in networks]

    def _measure(self, network: Network) -> Latency:
        with tempfile.TemporaryDirectory(prefix="rlnas-") as folder:
            values = self._write(network, Path(folder))
            words = [word.format(**values) for word in self._words]
            with exclusive(f"command {self._command}", wait_s=self._wait_s):
                samples = [ms for _ in range(self._repeats) for ms in self._run(words)]
        few = f"few samples: {len(samples)}, too few for an interval"
        return Latency.from_samples(samples, warnings=(few,) if len(samples) < FEWEST_FOR_AN_INTERVAL else ())

    def _write(self, network: Network, folder: Path) -> dict[str, str | int]:
        values: dict[str, str | int] = {"batch_size": self._batch_size}
        try:
            if "onnx" in self._named:
                write_onnx(network, folder / "model.onnx", batch=self._batch_size)
                values["onnx"] = str(folder / "model.onnx")
            if self._named & {"python", "weights"}:
                export(network, folder / "torch", formats=("python",))
                values["python"] = str(folder / "torch" / "model.py")
                values["weights"] = str(folder / "torch" / WEIGHTS_FILE)
        except ExportError as error:
            raise MeterError(f"network {network.graph.key} cannot be written for the command: {error}") from None
        return values

    def _run(self, words: list[str]) -> list[float]:
        name = shlex.join(words)
        try:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            raise MeterError(f"cannot run {name}: {error.strerror}") from None
        with process:
            try:
                out, err = process.communicate(timeout=self._timeout_s)
            except subprocess.TimeoutExpired:
                out, err = _end(process)
                raise MeterError(
                    f"{name} did not end within timeout_s={self._timeout_s:g} seconds{_said(out, err)}"
                ) from None
            except BaseException:
                _end(process)
                raise
        if process.returncode != 0:
            raise MeterError(f"{name} ended with status {process.returncode}{_said(out, err)}")
        samples = [float(match[1]) for line in out.splitlines() if (match := NUMBER.fullmatch(line))]
        if not samples:
            raise MeterError(f"{name} printed no milliseconds (a number alone on a line){_said(out, err)}")
        if wrong := [ms for ms in samples if not 0 < ms < float("inf")]:
            raise MeterError(f"{name} printed {wrong[0]:g}, which is no latency in milliseconds{_said(out, err)}")
        return samples


def _end(process: subprocess.Popen[str]) -> tuple[str, str]:
    """End a command and what it has started; gives what it printed."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    try:
        return process.communicate(timeout=5)
    except subprocess.TimeoutExpired:  # a child that left the group holds the pipes
        return "", ""


def _said(out: str, err: str) -> str:
    """What a command printed, its errors first, in one line that is not too long."""
    text = " ".join(f"{err.strip()}\n{out.strip()}".split())
    if not text:
        return "; it printed nothing"
    return f"; it printed: {text if len(text) <= SHOWN else f'{text[:SHOWN]}...'}"
