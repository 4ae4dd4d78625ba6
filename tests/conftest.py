"""One thread for every test: two beside other load collapse from spinning. And no test times itself."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from hypothesis import settings

settings.register_profile("rlnas", deadline=None)
settings.load_profile("rlnas")
torch.set_num_threads(1)
