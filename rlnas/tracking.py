"""Where a run's numbers go: ``events.jsonl``, W&B, or both. The only file that imports wandb, and only when it is used.

The step of everything is the number of evaluations. Keys that others rely on: ``eval/accuracy``, ``eval/latency_ms``,
``eval/n_params``, ``eval/macs``, ``eval/reward``, ``eval/status``; ``best/reward``, ``best/accuracy``,
``best/latency_ms``, ``best/n_params``; ``search/evaluations``, ``search/distinct``, ``search/infeasible``,
``search/hypervolume``; ``time/train_s``, ``time/measure_s``, ``time/other_s``; SB3's ``rollout/*`` and ``train/*``.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, cast

from rlnas.errors import ConfigError, RunError, unknown_name

if TYPE_CHECKING:
    import wandb

Mode = Literal["offline", "online", "disabled"]
Value = float | int | str | None

MODES: Final = ("offline", "online", "disabled")
STEP_KEY: Final = "search/evaluations"
_OLD_MODES: Final = {"dryrun": "offline", "run": "online"}
_FLUSH_S: Final = 1.0


class Tracker(Protocol):
    """Something that a run reports to."""

    def log(self, values: Mapping[str, Value], *, step: int) -> None:
        """Report numbers and short strings after ``step`` evaluations."""
        ...

    def event(self, kind: str, data: Mapping[str, Any]) -> None:
        """Report something that happened once, as JSON data."""
        ...

    def close(self) -> None:
        """Write what is still held back; nothing may be reported afterwards."""
        ...


class NullTracker:
    """Forgets everything."""

    def log(self, values: Mapping[str, Value], *, step: int) -> None:
        """Do nothing."""

    def event(self, kind: str, data: Mapping[str, Any]) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class JsonlTracker:
    """One JSON object a line, with ``kind``, ``step``, ``time`` (seconds since 1970) and ``values``.

    Numbers reported by `log` have the kind ``log``. A number that JSON cannot hold (NaN, infinity) is written as null.
    Every line reaches the operating system at once, so that a killed process loses none.

    Args:
        path: The file; appended to if it exists. An incomplete last line (its writer was killed) is cut off.

    Raises:
        RunError: If the file cannot be written, here and in every method.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._step = 0
        with self._errors():
            self._file = open(self.path, "a+b", buffering=0)  # noqa: SIM115
            self._cut(self._file.seek(0, os.SEEK_END))

    def log(self, values: Mapping[str, Value], *, step: int) -> None:
        """Write a line of the kind ``log``."""
        self._step = step
        self._write("log", values)

    def event(self, kind: str, data: Mapping[str, Any]) -> None:
        """Write a line of another kind, with the step of the last `log`."""
        assert kind != "log", "events need a kind of their own"
        self._write(kind, data)

    def offset(self) -> int:
        """Length of the file in bytes, all of them safely on the disk: what a checkpoint notes."""
        with self._errors():
            os.fsync(self._file.fileno())
            return self._file.seek(0, os.SEEK_END)

    def truncate(self, offset: int) -> None:
        """Forget what was written after `offset` was noted, as a run does that resumes from a checkpoint.

        If the file has become shorter than that, what is left is kept, and an event ``log_damaged`` says so.
        """
        with self._errors():
            size = self._file.seek(0, os.SEEK_END)
            self._cut(min(size, offset))
        if size < offset:
            self.event("log_damaged", {"missing_bytes": offset - size})

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, kind: str, values: Mapping[str, Any]) -> None:
        entry = {"kind": kind, "step": self._step, "time": round(time.time(), 3), "values": _plain(values)}
        line = json.dumps(entry, allow_nan=False).encode() + b"\n"
        with self._errors():
            while line:
                line = line[self._file.write(line) :]

    def _cut(self, length: int) -> None:
        """Shorten the file to the last whole line within ``length`` bytes."""
        end = length
        while end > 0:
            begin = max(0, end - 65536)
            self._file.seek(begin)
            newline = self._file.read(end - begin).rfind(b"\n")
            if newline >= 0:
                end = begin + newline + 1
                break
            end = begin
        self._file.truncate(end)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RunError(f"cannot write {self.path}: {error.strerror or error}") from None


class WandbTracker:
    """A W&B run whose files lie in ``folder/wandb``; each tracker is a new W&B run, also after a resume.

    Under a sweep agent W&B takes the sweep's and the run's id from the environment. At most a second of reports is lost
    when the process is killed; ``SIGTERM`` loses nothing where it is turned into SystemExit, as the command line does.

    Args:
        folder: The run directory.
        mode: ``offline`` or ``online``.
        project: W&B project; a sweep has its own.
        config: Settings; written as one flat dict with dotted names, so that a sweep's parameters are the same keys.

    Raises:
        RunError: If W&B cannot be started.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        mode: Literal["offline", "online"],
        project: str,
        config: Mapping[str, Any],
    ) -> None:
        import wandb

        folder = Path(folder).absolute()
        under_agent = bool(os.environ.get("WANDB_SWEEP_ID"))
        wanted: dict[str, Any] = {
            "silent": True,
            "console": "off",
            "disable_git": True,
            "save_code": False,
            "symlink": False,
            "x_disable_stats": True,  # no sampling of the machine beside the measurements
            "x_save_requirements": False,
            "x_transaction_log_flush_interval": _FLUSH_S,  # older versions write only full blocks, and lack the setting
        }
        known = wandb.Settings.model_fields
        settings = wandb.Settings(**{name: value for name, value in wanted.items() if name in known})
        try:
            with _cache_within(folder / "wandb" / "cache"):
                self._run: wandb.Run = wandb.init(
                    dir=str(folder),
                    mode=mode,
                    project=None if under_agent else project,
                    name=folder.name,
                    config=dict(_plain(flatten(config))),
                    settings=settings,
                )
        except (wandb.Error, OSError) as error:
            words = " ".join(str(error).split())
            raise RunError(f"cannot start W&B in mode {mode}: {words}; tracking.mode=offline needs no server") from None
        self._run.define_metric(STEP_KEY)
        self._run.define_metric("*", step_metric=STEP_KEY)

    @property
    def url(self) -> str | None:
        """Page of the run, if it is online."""
        return self._run.url

    def log(self, values: Mapping[str, Value], *, step: int) -> None:
        """Add a row to the history; what is not known (None) is left out."""
        self._run.log({key: value for key, value in _plain(values).items() if value is not None} | {STEP_KEY: step})

    def event(self, kind: str, data: Mapping[str, Any]) -> None:
        """Put the numbers and strings into the summary, as ``kind.name``; evaluations are in the history already."""
        if kind == "evaluation":
            return
        entries = flatten({kind: _plain(data)})
        self._run.summary.update({key: v for key, v in entries.items() if isinstance(v, (int, float, str))})

    def close(self) -> None:
        """Finish the W&B run."""
        self._run.finish()


class TeeTracker:
    """Reports to ``events.jsonl`` first, then to others."""

    def __init__(self, jsonl: JsonlTracker, *others: Tracker) -> None:
        self.jsonl = jsonl
        self._all: tuple[Tracker, ...] = (jsonl, *others)

    def log(self, values: Mapping[str, Value], *, step: int) -> None:
        """Report to all."""
        for tracker in self._all:
            tracker.log(values, step=step)

    def event(self, kind: str, data: Mapping[str, Any]) -> None:
        """Report to all."""
        for tracker in self._all:
            tracker.event(kind, data)

    def offset(self) -> int:
        """See `JsonlTracker.offset`."""
        return self.jsonl.offset()

    def close(self) -> None:
        """Close all, the last first, even if one of them fails."""
        errors = []
        for tracker in reversed(self._all):
            try:
                tracker.close()
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]


def make_tracker(
    folder: str | Path,
    *,
    mode: Mode,
    project: str,
    config: Mapping[str, Any],
    offset: int | None = None,
) -> TeeTracker:
    """Tracker of a run: ``events.jsonl`` always, W&B unless disabled.

    Args:
        folder: The run directory, which must exist.
        mode: What `resolve_mode` gave.
        project: W&B project.
        config: The run's resolved settings.
        offset: Length of ``events.jsonl`` at the checkpoint that the run resumes from.

    Raises:
        RunError: If a file cannot be written or W&B cannot be started.
    """
    jsonl = JsonlTracker(Path(folder) / "events.jsonl")
    if offset is not None:
        jsonl.truncate(offset)
    if mode == "disabled":
        return TeeTracker(jsonl)
    try:
        return TeeTracker(jsonl, WandbTracker(folder, mode=mode, project=project, config=config))
    except BaseException:
        jsonl.close()
        raise


def resolve_mode(setting: str | None, environ: Mapping[str, str]) -> Mode:
    """W&B's mode: the setting, else WANDB_MODE, else online under a sweep agent, else offline.

    Raises:
        ConfigError: If a mode is not known.
    """
    for source, given in (("tracking.mode", setting), ("WANDB_MODE", environ.get("WANDB_MODE"))):
        if given:
            mode = _OLD_MODES.get(given, given)
            if mode not in MODES:
                raise ConfigError(unknown_name(f"mode in {source}", given, MODES))
            return cast(Mode, mode)
    return "online" if environ.get("WANDB_SWEEP_ID") else "offline"


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one dict with dotted names; a flat one stays as it is."""
    flat: dict[str, Any] = {}
    for name, value in nested.items():
        inner = isinstance(value, Mapping) and value
        flat.update(flatten(value, f"{prefix}{name}.") if inner else {f"{prefix}{name}": value})
    return flat


@contextmanager
def _cache_within(folder: Path) -> Iterator[None]:
    """Have W&B's service, started inside, keep its log there, unless the user chose a place for W&B's cache."""
    if "WANDB_CACHE_DIR" in os.environ:
        yield
        return
    os.environ["WANDB_CACHE_DIR"] = str(folder)
    try:
        yield
    finally:
        os.environ.pop("WANDB_CACHE_DIR", None)


def _plain(value: Any) -> Any:
    """Plain JSON types: arrays as lists, paths as strings, what is not finite as None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, (str, bool, int)) or value is None:
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return _plain(value.tolist()) if hasattr(value, "tolist") else str(value)
