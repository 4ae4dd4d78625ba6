"""Entry point: picks the subcommand, and turns errors into one line and an exit status."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: idle threads must not spin beside training workers

import difflib
import importlib
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from rlnas.errors import RlnasError

USAGE = """usage: rlnas COMMAND ...

commands:
  train     search a network (also installed as train-controller); rlnas train --help lists the settings
  resume    continue a run that was stopped: rlnas resume RUN
  validate  check a run: play its episodes again and compare: rlnas validate RUN
  compare   controllers beside random search, over seeds and tasks: rlnas compare CONFIG
  show      list the layers of a network, draw it, or list what can be done to it: rlnas show NETWORK
  apply     one edit by hand: rlnas apply NETWORK OPERATOR SITE --to FOLDER
  export    a network as plain PyTorch, safetensors and ONNX: rlnas export NETWORK --to FOLDER
  latency   measure a network, build a look-up table, fit a predictor: rlnas latency --help
  --version
"""

COMMANDS = {
    "train": ("rlnas.cli.train", "train"),
    "resume": ("rlnas.cli.resume", "resume"),
    "validate": ("rlnas.cli.validate", "validate"),
    "compare": ("rlnas.cli.compare", "compare"),
    "show": ("rlnas.cli.show", "show"),
    "apply": ("rlnas.cli.apply", "apply_operator"),
    "export": ("rlnas.cli.export", "export_network"),
    "latency": ("rlnas.cli.latency", "latency"),
}
"""Module and function of each command; a module is loaded when its command is given."""


def main(arguments: Sequence[str] | None = None) -> None:
    """The ``rlnas`` command; leaves by SystemExit.

    Exit status 0 after success, 2 for an error that the user can mend, 130 after Ctrl-C.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        status = _dispatch(words)
        sys.stdout.flush()
        sys.exit(status)
    except RlnasError as error:
        print(f"rlnas: error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # whoever reads what is printed has enough, such as head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
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
    if command in COMMANDS:
        module, function = COMMANDS[command]
        status: int = getattr(importlib.import_module(module), function)(rest)
        return status
    if command == "--version":
        from rlnas import __version__

        print(__version__)
        return 0
    if command in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    near = difflib.get_close_matches(command, COMMANDS, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    known = ", ".join(COMMANDS)
    print(
        USAGE if not command else f"rlnas: error: unknown command {command!r}{hint} (known: {known})", file=sys.stderr
    )
    return 2
