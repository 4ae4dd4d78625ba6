"""``rlnas apply``: one edit by hand."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import rlnas
from rlnas.network import Network
from rlnas.operators import OPERATORS
from tests.cli.inside import IMAGE, Inside
from tests.nets import NETS


def test_exact_edit(inside: Inside) -> None:
    text = inside("apply", "net.py:Net", *IMAGE, "widen", "first", "--amount", "2", "--to", "wide")
    network = rlnas.load("wide")
    assert [str(applied.site) for applied in network.history] == ["widen(first, 2)"]
    assert re.search(rf"parameters +246 -> +{network.graph.n_params} +\+\d", text)
    assert re.search(rf"MACs +[\d,]+ -> +{network.graph.macs:,}", text)
    assert "(exact)" in text and float(drift(text)) < 1e-6
    assert "on 64 random inputs" in text and text.endswith("written to wide\n")


def drift(text: str) -> str:
    found = re.search(r"drift +([\d.e+-]+) of the outputs", text)
    assert found
    return found[1]


def test_compensated_edit_drifts_less(inside: Inside) -> None:
    words = ("apply", "net.py:Net(width=12)", *IMAGE, "prune_channels", "second", "--amount", "0.5")
    plain = inside(*words, "--to", "plain")
    compensated = inside(*words, "--to", "compensated", "--calibration", "digits")
    assert "not compensated; --calibration DATA compensates" in plain
    assert "on 256 calibration inputs (compensated)" in compensated
    measured = rlnas.load("compensated").history[-1].drift
    assert measured is not None and float(drift(compensated)) == pytest.approx(measured, rel=0.01)


@pytest.mark.parametrize("name", ["x_train", "x", "anything"])
def test_calibration_from_a_file(inside: Inside, name: str) -> None:
    images = np.random.default_rng(0).integers(0, 255, (40, 1, 8, 8), dtype=np.uint8)
    np.savez("mine.npz", **{name: images}, **({"y_train": np.zeros(40)} if name == "x_train" else {}))
    text = inside(
        *("apply", "net.py:Net", *IMAGE, "prune_channels", "second", "--calibration", "mine.npz", "--to", "thin")
    )
    assert "on 40 calibration inputs (compensated)" in text


def test_seed(inside: Inside) -> None:
    inside("export", "net.py:Net", *IMAGE, "--to", "net", "--formats", "graph,safetensors")
    for seed, folder in ((0, "a"), (0, "b"), (1, "c")):
        inside("apply", "net", "widen", "first", "--seed", str(seed), "--to", folder)
    hashes = [rlnas.load(folder).content_hash for folder in "abc"]
    assert hashes[0] == hashes[1] != hashes[2]


def test_second_node(inside: Inside) -> None:
    graph = NETS["resnet20"]()
    Network.initialize(graph, generator=torch.Generator().manual_seed(0)).save("net")
    sites = OPERATORS["add_skip"].sites(graph)
    anchor = next(site.anchor for site in sites if sum(other.anchor == site.anchor for other in sites) > 1)
    targets = [site.target for site in sites if site.anchor == anchor]
    line = inside.fails("apply", "net", "add_skip", anchor, "--to", "a")
    assert f"name one with --target: {targets[0]}, " in line
    text = inside("apply", "net", "add_skip", anchor, "--target", str(targets[1]), "--to", "a")
    assert f"add_skip({anchor} -> {targets[1]}, " in text
    line = inside.fails("apply", "net", "add_skip", graph.output, "--to", "b")
    assert f"add_skip applies nowhere at {graph.output}; rlnas show NETWORK --sites add_skip" in line


def test_nothing_is_lost_without_force(inside: Inside) -> None:
    inside("export", "net.py:Net", *IMAGE, "--to", "net")
    before = {path.name: path.read_bytes() for path in Path("net").iterdir()}
    assert "net holds a network already" in inside.fails("apply", "net", "widen", "first", "--to", "net")
    assert "does not apply" in inside.fails("apply", "net", "widen", "head", "--to", "net", "--force")
    assert {path.name: path.read_bytes() for path in Path("net").iterdir()} == before
    inside("apply", "net", "widen", "first", "--to", "net", "--force")
    assert {path.name for path in Path("net").iterdir()} == {"graph.json", "weights.safetensors"}, "the rest is stale"
    assert len(rlnas.load("net").history) == 1
    Path("net/thesis.txt").write_text("precious")
    assert "other things already (thesis.txt)" in inside.fails(
        "apply", "net", "widen", "first", "--to", "net", "--force"
    )
    assert "net.py is a file" in inside.fails("apply", "net", "widen", "first", "--to", "net.py", "--force")


def test_a_refused_edit_leaves_no_folder(inside: Inside) -> None:
    inside.fails("apply", "net.py:Net", *IMAGE, "widen", "relu1", "--to", "new/one")
    assert not Path("new").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("wden", "first"), ["'wden'", "'widen'", "prune_channels"]),
        (("widen", "frist"), ["no node 'frist'", "first"]),
        (("widen", "relu1"), ["widen(relu1, 1.5) does not apply"]),
        (("widen", "first", "--amount=0.5"), ["does not apply"]),
        (("widen", "first", "--amount=lots"), ["--amount", "lots"]),
        (("widen", "first", "--target=second"), ["takes no second node"]),
        (("widen", "first", "--target=nowhere"), ["no node 'nowhere'"]),
        (("widen",), ["SITE"]),
        (("widen", "first", "second"), ["second"]),
        (("prune_channels_taylor", "second"), ["prune_channels_taylor needs training inputs: --calibration DATA"]),
        (("prune_channels", "second", "--calibration=digit"), ["digit", "digits"]),
        (("prune_channels", "second", "--calibration=no.npz"), ["there is no file no.npz"]),
        (("prune_channels", "second", "--calibration=wrong.npz"), ["(3, 8, 8)", "(1, 8, 8)"]),
        (("prune_channels", "second", "--calibration=two.npz"), ["no array 'x_train'", "a, b"]),
        (("prune_channels", "second", "--calibration=damaged.npz"), ["damaged.npz cannot be read"]),
    ],
)
def test_mistakes(inside: Inside, words: tuple[str, ...], expected: list[str]) -> None:
    np.savez("wrong.npz", x=np.zeros((5, 3, 8, 8), dtype=np.float32))
    np.savez("two.npz", a=np.zeros(3), b=np.zeros(3))
    Path("damaged.npz").write_text("PK nothing")
    line = inside.fails("apply", "net.py:Net", *IMAGE, *words, "--to", "a")
    for word in expected:
        assert word in line, line
    assert not Path("a").exists()


def test_no_folder_named(inside: Inside) -> None:
    assert "--to" in inside.fails("apply", "net.py:Net", *IMAGE, "widen", "first")
