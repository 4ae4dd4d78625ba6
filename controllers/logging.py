"""Stable-Baselines3's own log keys, passed on to a tracker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stable_baselines3.common.logger import KVWriter, Logger

from rlnas.tracking import Tracker


class TrackerWriter(KVWriter):
    """Writes ``rollout/*``, ``train/*`` and ``time/*`` to a tracker.

    Args:
        tracker: Where the values go; it is not closed here.
        evaluations: Gives the number of evaluations so far, which is the step (Stable-Baselines3's own are actions).
    """

    def __init__(self, tracker: Tracker, *, evaluations: Callable[[], int]) -> None:
        self._tracker = tracker
        self._evaluations = evaluations

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """Pass on what is a number or a string."""
        values = {key: _plain(value) for key, value in key_values.items()}
        known = {key: value for key, value in values.items() if isinstance(value, (int, float, str))}
        if known:
            self._tracker.log(known, step=self._evaluations())

    def close(self) -> None:
        """Leave the tracker open: it belongs to the caller."""


def make_logger(tracker: Tracker, *, evaluations: Callable[[], int]) -> Logger:
    """A logger for ``controller.set_logger`` that writes to a tracker only.

    Args:
        evaluations: Gives the number of evaluations so far, such as ``lambda: callback.evaluations``.
    """
    return Logger(folder=None, output_formats=[TrackerWriter(tracker, evaluations=evaluations)])


def _plain(value: Any) -> Any:
    """A NumPy or torch scalar as Python's own."""
    return value.item() if hasattr(value, "item") and getattr(value, "size", 1) in (1, ()) else value
