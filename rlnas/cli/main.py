"""Entry point: picks the subcommand, and turns errors into one line and an exit status."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: idle threads must not spin beside training workers

import signal
import sys
from collections.abc import Sequence
from types import FrameType

from rlnas.errors import RlnasError

USAGE = """usage: rlnas COMMAND ...

commands:
  train    search a network (also installed as train-controller); rlnas train --help lists the settings
  resume   continue a run that was stopped: rlnas resume RUN
  --version
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """The ``rlnas`` command; leaves by SystemExit.

    Exit status 0 after success, 2 for an error that the user can mend, 130 after Ctrl-C.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        sys.exit(_dispatch(words))
    except RlnasError as error:
        print(f"rlnas: error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("rlnas: stopped", file=sys.stderr)
        sys.exit(130)


def train_controller() -> None:
    """The ``train-controller`` command: ``rlnas train``."""
    main(["train", *sys.argv[1:]])


def _terminate(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def _dispatch(words: list[str]) -> int:
    command, rest = (words[0], words[1:]) if words else ("", [])
    if command == "train":
        from rlnas.cli.train import train

        return train(rest)
    if command == "resume":
        from rlnas.cli.resume import resume

        return resume(rest)
    if command == "--version":
        from rlnas import __version__

        print(__version__)
        return 0
    if command in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    print(USAGE if not command else f"rlnas: error: unknown command {command!r}; known: train, resume", file=sys.stderr)
    return 2
