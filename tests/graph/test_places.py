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
    expected = {
        conv: 0,
        flat: 0,
        tokens: 1,
        norm: 1,
        wide: 1,
        pooled: 0,
        last: 2,
        rows: 1,
        whole: 0,
        lost: None,
        gate: 0,
    }
    assert {id: axes[id] for id in expected} == expected and axes["image"] is None
