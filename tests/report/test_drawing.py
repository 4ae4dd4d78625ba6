"""Drawings of networks: everything is there, in its place, and nothing covers anything else."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings

from rlnas.errors import ExportError
from rlnas.graph import Graph
from rlnas.graph.order import reading_order
from rlnas.graph.outline import flattened_concats, outline
from rlnas.report.drawing import draw
from rlnas.report.drawing.block import lay_out
from rlnas.report.drawing.columns import compose
from rlnas.report.drawing.labels import boxes
from rlnas.report.drawing.scene import Place, Scene
from rlnas.report.drawing.svg import svg_text
from tests.graphs import graphs
from tests.nets import NETS


def check_scene(scene: Scene) -> None:
    """Nothing outside of the page, no layer over another."""
    for shape in scene.shapes:
        assert shape.x - shape.width / 2 >= 0 and shape.x + shape.width / 2 <= scene.right
        assert shape.top >= 0 and shape.bottom <= scene.height
    for edge in scene.edges:
        assert all(0 <= x <= scene.right and 0 <= y <= scene.height for x, y in edge.places)
    for i, a in enumerate(scene.shapes):
        for b in scene.shapes[:i]:
            apart = abs(a.x - b.x) >= (a.width + b.width) / 2 or abs(a.y - b.y) >= (a.height + b.height) / 2
            assert apart, (a, b)


def crossings(scene: Scene) -> list[str]:
    """Labels of layers that a line goes through."""
    found = []
    for edge in scene.edges:
        for (ax, ay), (bx, by) in zip(edge.places, edge.places[1:], strict=False):
            for shape in scene.shapes:
                left, right = shape.x - shape.width / 2 + 1, shape.x + shape.width / 2 - 1
                top, bottom = shape.top + 1, shape.bottom - 1
                if min(ax, bx) < right and max(ax, bx) > left and min(ay, by) < bottom and max(ay, by) > top:
                    found.append(shape.label)
    return found


def overlaid(scene: Scene) -> list[tuple[Place, Place]]:
    """Runs across that lie over a run of a line from elsewhere to elsewhere, so that nobody could tell them apart."""
    runs = [
        (ax, bx, ay, edge)
        for edge in scene.edges
        for (ax, ay), (bx, by) in zip(edge.places, edge.places[1:], strict=False)
        if abs(ay - by) < 0.1 and abs(ax - bx) > 1
    ]
    return [
        ((a, y), (b, y))
        for k, (a, b, y, edge) in enumerate(runs)
        for c, d, other_y, other in runs[:k]
        if abs(y - other_y) < 0.1 and min(max(a, b), max(c, d)) - max(min(a, b), min(c, d)) > 1
        if edge.places[0] != other.places[0] and edge.places[-1] != other.places[-1]
    ]


@pytest.mark.parametrize("name", NETS)
def test_networks(name: str) -> None:
    scene = compose(NETS[name](), title="A title")
    check_scene(scene)
    assert not crossings(scene) and not overlaid(scene)
    assert scene.right / scene.height < 3 and "A title" in {words.text for words in scene.words}


@given(graph=graphs(dropout=True))
@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_any_graph(graph: Graph) -> None:
    scene = compose(graph, title="")
    check_scene(scene)
    assert not crossings(scene) and not overlaid(scene)
    ElementTree.fromstring(svg_text(scene))


@given(graph=graphs(dropout=True))
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_every_node_is_in_a_box_and_every_input_a_line(graph: Graph) -> None:
    reads = flattened_concats(graph, reading_order(graph))
    for group in outline(graph):
        found = boxes(graph, group.nodes, reads)
        assert sorted(id for box in found for id in box.nodes) == sorted(group.nodes)
        inside = {id for box in found for id in box.nodes[:-1]}
        lines = sum(len({i for i in reads[box.nodes[0]] if i not in inside}) for box in found)
        assert len(lay_out(graph, group.nodes, reads, width=100).edges) == lines


def test_blocks_that_repeat_are_drawn_once() -> None:
    words = {words.text for words in compose(NETS["resnet20"](), title="").words}
    assert {
        "stem",
        "stage 1",
        "blocks 1\u20133",
        "\u00d73",
        "stage 3",
        "block 1",
        "\u00d72",
        "64\u00d78\u00d78",
    } <= words
    labels = [shape.label for shape in compose(NETS["resnet20"](), title="").shapes]
    assert labels.count("3\u00d73 conv, 16") == 3 and labels.count("1\u00d71 conv, 32 /2") == 1


def test_files(tmp_path: Path) -> None:
    graph = NETS["mobilenet"]()
    for name in ("net.svg", "net.png"):
        draw(graph, tmp_path / name)
    root = ElementTree.fromstring((tmp_path / "net.svg").read_text())
    assert root.tag.endswith("svg") and "3\u00d73 depthwise, 48" in (tmp_path / "net.svg").read_text()
    assert (tmp_path / "net.png").read_bytes()[:4] == b"\x89PNG"


def test_files_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = NETS["vgg"]()
    with pytest.raises(ExportError, match=r"\.svg or \.png"):
        draw(graph, tmp_path / "net.pdf")
    with pytest.raises(ExportError, match="cannot write"):
        draw(graph, tmp_path / "nowhere" / "net.svg")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ExportError, match=r"rlnas\[plot\]"):
        draw(graph, tmp_path / "net.png")
