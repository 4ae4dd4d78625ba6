"""Pictures of states: one size, other states look different, and Gymnasium's wrappers take them."""

from __future__ import annotations

import importlib.util
import itertools
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers import AddRenderObservation, RenderCollection

from rlnas.envs import MorphEnv
from rlnas.envs.picture import HEIGHT, WIDTH
from rlnas.errors import ConfigError, SpaceError
from rlnas.graph import Graph
from rlnas.layout import STOP
from rlnas.report.drawing.choices import MOST_CHOICES, Row, compose_choices
from rlnas.report.drawing.columns import compose
from rlnas.report.drawing.png import pixels
from rlnas.report.drawing.scene import COLOURS, Scene
from tests.envs.cases import CASES
from tests.envs.fakes import fake_problem
from tests.nets import resnet20

DRAWN = ("stages", "transformer", "table", "cells, edited")


def colour(family: str) -> tuple[int, ...]:
    """What a kind of layer is filled with."""
    return tuple(bytes.fromhex(COLOURS[family][0].removeprefix("#")))


def has(picture: np.ndarray, rgb: tuple[int, ...]) -> bool:
    """Whether there is an area of a colour, not just a stray pixel."""
    return int((picture == np.array(rgb, dtype=np.uint8)).all(axis=-1).sum()) > 100


@pytest.mark.parametrize("name", DRAWN)
def test_pictures_are_of_one_size_and_show_the_state(name: str) -> None:
    env, rng = CASES[name].make(render_mode="rgb_array"), np.random.default_rng(0)
    env.reset(seed=0)
    pictures = [env.render()]
    while env._episode.steps_left > 1 and len(pictures) < 3:
        legal = np.flatnonzero(env.action_masks())
        env.step(np.int64(rng.choice(legal[legal != STOP])))
        pictures.append(env.render())
    assert all(p.shape == (HEIGHT, WIDTH, 3) and p.dtype == np.uint8 for p in pictures)
    assert HEIGHT % 2 == WIDTH % 2 == 0
    assert all((a != b).any() for a, b in itertools.pairwise(pictures))
    assert np.array_equal(env.render(), pictures[-1]) and np.array_equal(env.fork().render(), pictures[-1])
    assert has(pictures[-1], colour("conv")) and (pictures[-1][:, -4:] == 255).all()


def test_gymnasium_wrappers_collect_and_observe_pictures() -> None:
    env: Any = RenderCollection(gymnasium.make("rlnas/Morph-v0", problem=fake_problem(), render_mode="rgb_array"))
    env.reset(seed=0)
    env.step(np.int64(env.unwrapped.action_masks().nonzero()[0][1]))
    env.step(np.int64(STOP))
    frames = env.render()
    assert len(frames) == 3 and {frame.shape for frame in frames} == {(HEIGHT, WIDTH, 3)}
    seen: Any = AddRenderObservation(gymnasium.make("rlnas/Build-v0", render_mode="rgb_array", **_table()))
    observation, _ = seen.reset(seed=0)
    assert seen.observation_space.contains(observation) and observation.shape == (HEIGHT, WIDTH, 3)


def _table() -> dict[str, Any]:
    return CASES["table"].settings()


def test_whatever_its_size_a_network_fits_with_letters_large_enough_to_read() -> None:
    for graph in (resnet20(), MorphEnv(problem=fake_problem()).problem.space.start):
        scene = compose(graph, title="title")
        scale = min(WIDTH / scene.right, HEIGHT / scene.height)
        assert 8.5 * scale >= 6, "the smallest letters would be less than 6 pixels high"
        drawn = pixels(scene, width=WIDTH, height=HEIGHT)
        assert not (drawn == 255).all() and (drawn[[0, -1]] == 255).all() and (drawn[:, [0, -1]] == 255).all()


def test_decisions_are_drawn_one_a_line_in_as_many_columns_as_they_need() -> None:
    rows = [Row(f"decision {k}", ("a", "b", "c"), 1 if k < 30 else None, current=k == 30) for k in range(60)]
    scene = compose_choices(rows, title="title")
    boxes = [shape for shape in scene.shapes if shape.kind == "box"]
    assert len(boxes) == 180 and sum(box.family == "conv" for box in boxes) == 30 and len(scene.frames) == 1
    assert len({words.x for words in scene.words if words.text.startswith("decision")}) == 3
    _inside(scene)
    many = compose_choices([Row("one", tuple(map(str, range(MOST_CHOICES + 1))), 4)], title="t")
    assert [words.text for words in many.words] == ["t", "one", "4"]


def _inside(scene: Scene) -> None:
    for shape in scene.shapes:
        assert shape.x - shape.width / 2 > 0 and shape.x + shape.width / 2 < scene.right
        assert shape.top > 0 and shape.bottom < scene.height


def test_episodes_of_another_kind_are_drawn_as_their_text(monkeypatch: pytest.MonkeyPatch) -> None:
    env = MorphEnv(problem=fake_problem(), render_mode="rgb_array")
    env.reset(seed=0)
    network = env.render()
    monkeypatch.setattr(env._episode, "graph", None, raising=False)
    monkeypatch.setattr(env, "_text", lambda: "a line\nand another")
    text = env.render()
    assert text.shape == network.shape and (text != network).any() and not (text == 255).all()


def test_what_cannot_be_rendered_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SpaceError, match="'ansi', 'rgb_array' or None"):
        MorphEnv(problem=fake_problem(), render_mode="human")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'rlnas\[plot\]'"):
        MorphEnv(problem=fake_problem(), render_mode="rgb_array")
    assert isinstance(MorphEnv(problem=fake_problem()).problem.space.start, Graph)
