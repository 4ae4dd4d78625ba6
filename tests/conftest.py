"""One thread for every test: two beside other load collapse from spinning. And no test times itself."""

from __future__ import annotations

import gc
import os
import signal
import threading

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
import torch
from hypothesis import settings

gc.disable()  # until all tests are collected: a third of the time that takes went into looking at what stays anyway
settings.register_profile("rlnas", deadline=None)
settings.load_profile("rlnas")
torch.set_num_threads(1)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    # What a script starts in the background ignores Ctrl-C, and so would the programs that tests stop by it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """Collect garbage again, but for what is there already."""
    gc.enable()
    gc.collect()
    gc.freeze()
