"""Where the channels of a value lie."""

from __future__ import annotations

from tests.graphs import Builder


def test_channels_are_followed_through_moves() -> None:
    b = Builder(3, 6, 4)
    conv = b.conv(8)
    flat = b.add("flatten", start=1)
    tokens = b.add("permute", dims=(1, 0))
    norm = b.add("layer_norm")
    wide = b.add("linear", out_channels=12)
    pooled = b.add("reduce", kind="mean", axes=(0,))
    last = b.add("permute", conv, dims=(1, 2, 0))
    rows = b.add("reshape", last, shape=(24, 8))
    whole = b.add("flatten", conv)
    lost = b.add("reshape", conv, shape=(2, 4, 24))
    gate = b.add("mul", conv, b.add("reduce", conv, kind="mean", axes=(1, 2), keepdim=True))
    b.add("concat", b.add("flatten", gate), whole, pooled, b.add("flatten", rows), b.add("flatten", lost))
    axes = b.graph().channel_axes
    first, last_axis = (conv, flat, pooled, whole, gate), (tokens, norm, wide, rows)
    assert all(axes[id] == 0 for id in first) and all(axes[id] == 1 for id in last_axis)
    assert axes[last] == 2 and axes[lost] is None and axes["image"] is None
