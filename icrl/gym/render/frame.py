"""A scene in its frame: the family's name, how far the episode is, what it has earned, and the last action below.

A frame has the same size whatever is in it. A new kind of scene is a file with ``draw`` and ``describe``, and a line in
``_DRAWN``.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from icrl.core.errors import require
from icrl.core.scenes import Arms, Episode, Graph, Plane, Readings, Room, Scene
from icrl.core.types import Environment
from icrl.gym.render import arms, graphs, planes, readings, rooms
from icrl.gym.render.canvas import BLUE, INK, LINE, QUIET, box, text_width, write
from icrl.gym.render.trace import Trace

RENDER_MODES = ("rgb_array", "ansi")
RENDER_FPS = 5
WIDTH, HEIGHT = 320, 384  # multiples of 16, as video codecs want
SIDE = 288  # of the square in which scenes are drawn
LEFT, TOP = (WIDTH - SIDE) // 2, 56


class Drawn(NamedTuple):
    """How a kind of scene is shown."""

    draw: Callable[[np.ndarray, Any, Episode], None]  # on pixels [SIDE, SIDE, 3]
    describe: Callable[[Any, Episode], str]  # in lines of text


_DRAWN: dict[type, Drawn] = {
    Room: Drawn(rooms.draw, rooms.describe),
    Plane: Drawn(planes.draw, planes.describe),
    Graph: Drawn(graphs.draw, graphs.describe),
    Arms: Drawn(arms.draw, arms.describe),
    Readings: Drawn(readings.draw, readings.describe),
}


class Camera:
    """Watches N sub-environments of one family when there is a ``render_mode``, and does nothing without one."""

    def __init__(self, family: Environment, render_mode: str | None, num_envs: int = 1):
        allowed = ", ".join((*RENDER_MODES, "None"))
        require(render_mode is None or render_mode in RENDER_MODES, "render_mode", render_mode, allowed)
        self._family = family
        self._mode = render_mode
        self._trace = Trace(num_envs, family.spec.num_actions or 1, family.spec.action_shape) if render_mode else None

    def begin(self, obs: Any, fresh: np.ndarray) -> None:
        """Episodes begin where ``fresh`` [N], seen as ``obs`` [N, *O]."""
        if self._trace is not None:
            self._trace.begin(np.asarray(obs), fresh)

    def add(self, obs: Any, actions: np.ndarray, rewards: Any, restarted: np.ndarray) -> None:
        """A step of each [N]; see ``Trace.add``."""
        if self._trace is not None:
            self._trace.add(np.asarray(obs), actions, rewards, restarted)

    def shoot(self, index: int, task: Any, state: Any) -> Any:
        """Sub-environment ``index`` as it is now, in its ``task`` and ``state``: pixels [H, W, 3], a text, or None."""
        if self._trace is None:
            return None
        episode = self._trace.episode(index)
        scene = self._family.scene(task, state, episode)
        show = framed if self._mode == "rgb_array" else told
        return show(self._family.name, int(task.max_steps_in_episode), scene, episode)


def framed(name: str, horizon: int, scene: Scene, episode: Episode) -> np.ndarray:
    """The picture of a ``scene``, [384, 320, 3] uint8."""
    pixels = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    title_scale = 2 if text_width(name, 2) <= SIDE else 1
    write(pixels, (LEFT, 8), name, scale=title_scale)
    write(pixels, (LEFT, 31), f"step {episode.num_steps} of {horizon}", QUIET)
    write(pixels, (LEFT + SIDE, 31), f"return {_number(episode.sums.sum())}", QUIET, align=1.0)
    box(pixels, LEFT, 44, LEFT + SIDE, 47, LINE)
    if episode.num_steps:
        box(pixels, LEFT, 44, LEFT + SIDE * min(episode.num_steps / horizon, 1.0), 47, BLUE)
    _DRAWN[type(scene)].draw(pixels[TOP : TOP + SIDE, LEFT : LEFT + SIDE], scene, episode)
    last = _last(episode)
    write(pixels, (LEFT, TOP + SIDE + 14), last, INK, scale=2 if text_width(last, 2) <= SIDE else 1)
    return pixels


def told(name: str, horizon: int, scene: Scene, episode: Episode) -> str:
    """The ``scene`` in lines of text."""
    head = f"{name}: step {episode.num_steps} of {horizon}, return {_number(episode.sums.sum())}"
    return f"{head}\n{_DRAWN[type(scene)].describe(scene, episode)}\n{_last(episode)}\n"


def _last(episode: Episode) -> str:
    if episode.num_steps == 0:
        return "a new episode"
    action = str(episode.action) if episode.vector is None else " ".join(f"{part:.2f}" for part in episode.vector[:4])
    return f"action {action}, reward {_number(episode.reward)}"


def _number(value: float) -> str:
    return f"{value:.4g}"
