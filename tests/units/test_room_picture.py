"""A picture of walks shows the room as it is and the way that was gone."""

import io

import jax
import numpy as np
import pytest
from matplotlib.image import imread
from matplotlib.patches import Rectangle

from icrl.cli import main
from icrl.core.interact import interact
from icrl.core.registry import agents, environments
from icrl.core.settings import flat
from icrl.core.types import History
from icrl.datasets.histories import HistoryGenerator, Part, episodes, store_collected
from icrl.envs._grid_room import GridRoom
from icrl.envs.dark_key_to_door import DarkKeyToDoor
from icrl.reports.charts import to_pixels, to_png
from icrl.reports.walks import draw_walks, spread_visits

ROOMS = [name for name in environments if issubclass(environments[name], GridRoom)]
KEY, DOOR, SIZE = (1, 4), (3, 0), 5


def lived(env, task, agent, num_steps) -> History:
    source = agents[agent].for_env(env)
    return jax.tree.map(np.asarray, interact(jax.random.key(0), env, task, source, num_steps).history)


def key_room():
    """A room with its task, and two episodes of its oracle."""
    env = DarkKeyToDoor(size=SIZE, horizon=12)
    task = env.task((KEY[0] * SIZE + KEY[1]) * SIZE**2 + DOOR[0] * SIZE + DOOR[1])
    return env, task, episodes(lived(env, task, "oracle", 24))


@pytest.mark.parametrize("name", ROOMS)
def test_landmarks_are_where_the_optimum_is_paid(name):
    env = environments[name]()
    for number in (1, env.num_tasks // 3, env.num_tasks - 1):
        task = env.task(number)
        history = lived(env, task, "oracle", env.horizon)
        paid = map(tuple, history.next_obs[history.reward > 0].astype(int).tolist())
        marks = (tuple(np.asarray(cell).tolist()) for cell in env.landmarks(task).values())
        assert list(dict.fromkeys(paid)) == list(dict.fromkeys(marks))


def test_visits_of_a_cell_lie_apart_and_inside_it():
    env = DarkKeyToDoor(horizon=200)
    history = lived(env, env.task(0), "uniform", 200)
    cells = np.concatenate([history.obs, history.next_obs[-1:]])
    points = spread_visits(cells)
    np.testing.assert_array_equal(points.round(), cells)
    assert len(np.unique(points.round(6), axis=0)) == 201
    first = np.unique(cells, axis=0, return_index=True)[1]
    np.testing.assert_array_equal(points[first], cells[first])


def test_the_figure_shows_room_path_and_return():
    env, task, (first, second) = key_room()
    figure = draw_walks(env, task, {"one": first, "two": second}, "Walks")
    assert [text.get_text() for text in figure.texts] == ["Walks", "key (1, 4), door (3, 0); paths darken with time"]
    assert [axes.get_title() for axes in figure.axes] == [f"{n}\nfrom (2, 2), return 2 of 2" for n in ("one", "two")]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["key", "door", "reward", "start", "end"]
    for axes in figure.axes:
        squares = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
        np.testing.assert_allclose([square.get_center() for square in squares], [KEY, DOOR])
        line = next(artist for artist in axes.collections if artist.get_array() is not None)
        way = np.array(line.get_segments())
        np.testing.assert_array_equal(way[:, 0].round(), first.obs)
        np.testing.assert_array_equal(way[:, 1].round(), first.next_obs)
        paid, start, end = (np.asarray(dots.get_offsets()) for dots in axes.collections[-3:])
        np.testing.assert_array_equal(paid.round(), [KEY, DOOR])
        assert (start.round().tolist(), end.round().tolist()) == ([[2, 2]], [list(DOOR)])


@pytest.mark.parametrize("count", [1, 2, 5])
def test_figures_of_one_width_stack(count):
    env, task, (episode, _) = key_room()
    pictures = [draw_walks(env, task, {str(n): episode for n in range(count)}, "Walks") for _ in range(2)]
    one, two = imread(io.BytesIO(to_png(pictures[0]))), imread(io.BytesIO(to_png(*pictures)))
    assert one.shape[1] == 1280
    np.testing.assert_array_equal(two[..., :3], np.concatenate([one, one])[..., :3])
    np.testing.assert_array_equal((one[..., :3] * 255).round(), to_pixels(pictures[0]))


@pytest.mark.parametrize("num_steps", [12, 18, 60])
def test_inspect_draws_walks_below_the_curves_of_a_room(tmp_path, num_steps):
    env, _, _ = key_room()
    part = Part(agents["annealed-oracle"].for_env(env), 2)
    for name, card in (("room", {"env": {"id": env.name, **flat(env)}}), ("unknown", {})):
        store_collected(tmp_path / name, HistoryGenerator(env, (part,), num_steps, np.array([7, 11, 300]), 0), card)
        assert main(["inspect", str(tmp_path / name), "--png", str(tmp_path / f"{name}.png")]) == 0
    room, unknown = (imread(tmp_path / f"{name}.png") for name in ("room", "unknown"))
    assert unknown.shape[:2] == (768, 1280)
    assert room.shape[0] > 768 + 300 and room.shape[1] == 1280
    np.testing.assert_array_equal(room[:768], unknown)
