"""Progress display of a search: evaluations done, the best so far, time left."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class SearchProgress:
    """A bar a search; silent if not wanted or the output is no terminal, but for a line a stage.

    Args:
        console: Where to print.
        enabled: False for no bars.
    """

    def __init__(self, console: Console, *, enabled: bool) -> None:
        self.console = console
        self._bars = Progress(
            TextColumn("{task.description:<14}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[best]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            console=console,
            disable=not (enabled and console.is_terminal),
            refresh_per_second=4,
        )
        self._task: TaskID | None = None
        self._best: dict[str, Any] | None = None
        self._results = 0

    def __enter__(self) -> SearchProgress:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def stage(self, name: str, total: int, *, done: int = 0, best: dict[str, Any] | None = None) -> None:
        """Begin a stage of so many evaluations, some of which may be done already."""
        self.finish()
        self._best, self._results = best, done
        self._task = self._bars.add_task(name, total=total, completed=done, best=describe(best))
        if self._bars.disable:
            self.console.print(f"{name}: {total} evaluations" + (f", {done} of them done" if done else ""))

    def finish(self) -> None:
        """The present stage is done, also if fewer evaluations were needed than expected."""
        if self._task is not None:
            self._bars.update(self._task, completed=self._bars.tasks[self._task].total)

    def result(self, *_: object) -> None:
        """One more result is there, of a batch that may not be whole yet."""
        if self._task is not None:
            self._results += 1
            self._bars.update(self._task, completed=self._results)

    def evaluation(self, evaluation: dict[str, Any]) -> None:
        """An evaluation has its reward."""
        if self._task is None:
            return
        if evaluation["status"] == "ok" and (self._best is None or evaluation["reward"] > self._best["reward"]):
            self._best = evaluation
        self._results = max(self._results, evaluation["evaluation"])
        self._bars.update(self._task, completed=self._results, best=describe(self._best))


def describe(evaluation: dict[str, Any] | None) -> str:
    """Accuracy, latency and reward in a few words."""
    if evaluation is None:
        return ""
    words = [f"best {100 * evaluation['accuracy']:.1f} %"]
    if evaluation.get("latency_ms") is not None:
        words.append(f"{evaluation['latency_ms']:.3f} ms")
    return " ".join([*words, f"reward {evaluation['reward']:.3f}"])
