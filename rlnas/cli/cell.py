"""One search of a comparison in a process of its own: the command line, but it stops when its parent is gone."""

from __future__ import annotations

import os
import signal
import sys
import threading

from rlnas.cli.main import main


def watch_parent() -> None:
    """Stop as after SIGTERM, with everything finished saved, when the pipe from the parent is closed."""

    def wait() -> None:
        while os.read(sys.stdin.fileno(), 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    watch_parent()
    main(sys.argv[1:])
