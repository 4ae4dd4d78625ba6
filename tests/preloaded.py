"""What takes most programs seconds before they do anything of their own: other people's packages, none of ours."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import tempfile
import warnings
from pathlib import Path
from typing import Final

import torch
from torch import nn

MODULES: Final = (
    "gymnasium",
    "jsonargparse",
    "jaxtyping",
    "matplotlib.pyplot",
    "rich.console",
    "safetensors.torch",
    "scipy.stats",
    "sklearn.datasets",
    "stable_baselines3",
    "torch._dynamo",
)

for name in MODULES:
    if importlib.util.find_spec(name.partition(".")[0]) is not None:
        importlib.import_module(name)
if importlib.util.find_spec("onnxscript") is not None:
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        torch.onnx.export(
            nn.Linear(1, 1).eval(), (torch.zeros(1, 1),), Path(folder, "model.onnx"), dynamo=True, verbose=False
        )
gc.collect()
gc.freeze()  # none of this is looked at again by the garbage collection of any process that is forked
