"""Gymnasium spaces of a layout."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces

from rlnas.layout import Layout


def observation_space(layout: Layout) -> spaces.Dict:
    """Flat dict of one-dimensional boxes with finite bounds, and the action mask."""
    sizes = layout.sizes
    low = {"nodes": -1.0, "node_mask": 0.0, "context": -1.0}
    boxes: dict[str, spaces.Space[np.ndarray]] = {
        name: spaces.Box(low[name], 1.0, (sizes[name],), np.float32) for name in low
    }
    return spaces.Dict(boxes | {"action_mask": spaces.MultiBinary(sizes["action_mask"])})


def action_space(layout: Layout) -> spaces.Discrete:
    """STOP and one action for each (slot, variant)."""
    return spaces.Discrete(layout.n_actions)
