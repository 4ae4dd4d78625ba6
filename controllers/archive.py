"""The archive of what a search has reached, as a callback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

from rlnas.report import Archive


class ArchiveCallback(BaseCallback):
    """Adds every evaluated episode to an archive, and logs ``search/hypervolume`` and ``search/front``.

    It goes with every algorithm of Stable-Baselines3 and every controller of rlnas.

    Args:
        archive: Where to; `rlnas.envs.archive_of` makes one for a problem.
        finish: As of `EvaluationCallback`, one of which should have it where episodes can be late.
    """

    def __init__(self, archive: Archive, *, finish: Callable[[], list[dict[str, Any]]] | None = None) -> None:
        super().__init__()
        self.archive = archive
        self._finish = finish

    def _on_step(self) -> bool:
        infos: list[dict[str, Any]] = self.locals["infos"]
        arrived = [info for _, _, info in infos[0].get("arrived", ())]
        over = [info for done, info in zip(self.locals["dones"], infos, strict=True) if done and "late" not in info]
        self._add(arrived + over)
        return True

    def _on_training_end(self) -> None:
        self._add(self._finish() if self._finish is not None else [])

    def _add(self, infos: list[dict[str, Any]]) -> None:
        for info in infos:
            self.archive.add(info)
        if infos:
            self.logger.record("search/hypervolume", self.archive.hypervolume)
            self.logger.record("search/front", len(self.archive.records))
