from __future__ import annotations

import torch

torch.set_num_threads(1)  # more threads beside another busy process spin instead of working
