"""Evaluators, operators and spaces of a person's own, which settings name by import paths."""

from __future__ import annotations

from pathlib import Path

from rlnas.cli.config import SearchSettings
from rlnas.errors import ConfigError
from rlnas.importing import is_import_path, reach


def code_folder(settings: SearchSettings) -> Path | None:
    """Where the settings' own code is imported from; None if they name none.

    Raises:
        ConfigError: If the folder is not there, or is given and nothing is imported.
    """
    named = [settings.evaluation.name, settings.space.name, *(settings.space.variants or [])]
    own = [name for name in named if is_import_path(name)]
    if not own:
        if settings.run.code is not None:
            raise ConfigError(
                f"run.code={settings.run.code} does nothing: there is no import path in evaluation.name or space"
            )
        return None
    folder = Path(settings.run.code or ".").absolute()
    if not folder.is_dir():
        raise ConfigError(f"run.code={folder} is no folder; it is where {', '.join(own)} should be imported from")
    return folder


def reach_own_code(settings: SearchSettings) -> None:
    """Let the settings' own code be imported, here and in worker processes.

    Raises:
        ConfigError: As `code_folder`.
    """
    if (folder := code_folder(settings)) is not None:
        reach(folder)
