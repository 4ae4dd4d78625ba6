"""How long a search has been going on, and how much of it was neither training nor measuring."""

from __future__ import annotations

import time
from typing import Any

from rlnas.evaluation import Layer, Service
from rlnas.report.breakdown import Interval, breakdown


class SearchClock:
    """Adds up a search's time over stops and continuations; what passes between them does not count.

    Args:
        service: What evaluates, and knows when it did; None where evaluations are looked up.
    """

    def __init__(self, service: Service | Layer | None) -> None:
        self._service = service
        self._last = time.time()
        self.search_s = 0.0
        self.other_s = 0.0

    def tick(self) -> dict[str, float]:
        """Count the time since the last tick; gives the sums under the names in the log."""
        now = time.time()
        busy = []
        if self._service is not None:
            busy += [Interval("train", *stretch) for stretch in self._service.training_intervals]
            busy += [Interval("measure", *stretch) for stretch in self._service.measuring_intervals]
        since = breakdown(busy, start_s=self._last, end_s=max(now, self._last))
        self.search_s += since.total_s
        self.other_s += since.other_s
        self._last = now
        return {"time/search_s": round(self.search_s, 6), "time/search_other_s": round(self.other_s, 6)}

    def state(self) -> dict[str, Any]:
        """The sums, as JSON values."""
        return {"search_s": self.search_s, "other_s": self.other_s}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what `state` gave."""
        self.search_s, self.other_s = float(state["search_s"]), float(state["other_s"])
