"""Pictures of walks through a dark room: what is where in it, and how the walker went, in a few episodes side by side.

The path darkens with time. A step into a cell that was visited before lands beside its centre, on a spiral with the
golden angle between visits (Vogel 1979): ways there and back do not hide each other, and who stays leaves a bunch of
dots.
"""

import math
from typing import Any

import numpy as np

from icrl.core.types import History
from icrl.envs._grid_room import GridRoom
from icrl.reports.charts import DPI, INK, QUIET, SIZE_INCHES, STRONG, our_style

SPIRAL_STEP, SPIRAL_END = 0.1, 0.36  # how far the second and the last visit may be from the centre, in cells
GOLDEN_ANGLE = math.pi * (3.0 - math.sqrt(5.0))
MARKED = (STRONG[2], STRONG[0], STRONG[3])  # colours of the first, second, ... landmark
PAID, PAID_EDGE = "#F0E442", "#6b6400"  # Okabe and Ito's yellow, and a darker one
WIDEST_ROOM, MARGIN, HEADER, FOOTER = 2.6, 0.4, 1.05, 0.66  # inches; the margin is beside and between the rooms


def draw_walks(room: GridRoom, task: Any, episodes: dict[str, History], title: str) -> Any:
    """A figure as wide as a chart: the room of ``task`` once for each episode, in a row, with a legend below.

    Args:
      task: the parameters of one task of ``room``.
      episodes: what to call each of them, to its transitions [L, ...].
    """
    width, count = SIZE_INCHES[0], len(episodes)
    side = min(WIDEST_ROOM, (width - MARGIN * (count + 1)) / count)
    height, gap = HEADER + side + FOOTER, (width - side * count) / (count + 1)
    best = float(room.optimal_return(task))
    with our_style():
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(width, height), dpi=DPI)
        FigureCanvasAgg(figure)
        where = ", ".join(f"{name} {_pair(cell)}" for name, cell in room.landmarks(task).items())
        figure.text(0.02, 1 - 0.12 / height, title, va="top", fontsize=13, fontweight="bold", color=INK)
        figure.text(0.02, 1 - 0.38 / height, f"{where}; paths darken with time", va="top", fontsize=9, color=QUIET)
        for number, (name, episode) in enumerate(episodes.items()):
            left = gap + number * (side + gap)
            axes = figure.add_axes((left / width, FOOTER / height, side / width, side / height))
            _draw_room(axes, room, task)
            _draw_path(axes, episode)
            earned = f"from {_pair(episode.obs[0])}, return {float(np.sum(episode.reward)):.4g} of {best:.4g}"
            axes.set_title(f"{name}\n{earned}", fontsize=9.5, color=INK)
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="lower center", ncols=len(labels), frameon=False, fontsize=9.5)
    return figure


def _pair(cell: Any) -> str:
    x, y = np.asarray(cell, int)
    return f"({x}, {y})"


def _draw_room(axes: Any, room: GridRoom, task: Any) -> None:
    """Walls, cells, and a coloured square on every landmark; those that share a cell lie in one another."""
    from matplotlib.patches import Rectangle

    axes.set_xlim(-0.5, room.size - 0.5)
    axes.set_ylim(-0.5, room.size - 0.5)
    inner = np.arange(room.size - 1) + 0.5
    axes.hlines(inner, -0.5, room.size - 0.5, color="#e4e4e4", linewidth=0.7, zorder=0)
    axes.vlines(inner, -0.5, room.size - 0.5, color="#e4e4e4", linewidth=0.7, zorder=0)
    ticks = np.unique([0, room.size // 2, room.size - 1])
    axes.set_xticks(ticks)
    axes.set_yticks(ticks)
    axes.tick_params(length=0, labelsize=8, colors=QUIET)
    for number, (name, cell) in enumerate(room.landmarks(task).items()):
        (x, y), half, color = np.asarray(cell), 0.5 - 0.13 * number, MARKED[number]
        corner, fill = (x - half, y - half), (color, 0.45)
        square = Rectangle(corner, 2 * half, 2 * half, facecolor=fill, edgecolor=color, linewidth=1.6, label=name)
        axes.add_patch(square)


def _draw_path(axes: Any, episode: History) -> None:
    """The walk as a line from light to dark, a ring where it starts, a disc where it ends, a dot where it was paid."""
    from matplotlib.collections import LineCollection

    points = spread_visits(np.concatenate([episode.obs, episode.next_obs[-1:]]))
    pieces = np.stack([points[:-1], points[1:]], axis=1)
    shade = np.linspace(0.35, 1.0, len(pieces))
    axes.add_collection(LineCollection(list(pieces), cmap="Blues", array=shade, clim=(0, 1), linewidth=1.3, zorder=3))
    paid = points[1:][np.asarray(episode.reward) > 0]
    axes.scatter(*paid.T, s=13, facecolor=PAID, edgecolor=PAID_EDGE, linewidth=0.5, zorder=4, label="reward")
    axes.scatter(*points[0], s=46, facecolor="white", edgecolor=INK, linewidth=1.4, zorder=5, label="start")
    axes.scatter(*points[-1], s=30, color=INK, linewidth=0, zorder=6, label="end")


def spread_visits(positions: np.ndarray) -> np.ndarray:
    """Points [L + 1, 2] in the visited cells ``positions`` [L + 1, 2]: first visits in the centre, others around it."""
    cells, cell_of = np.unique(np.asarray(positions, int), axis=0, return_inverse=True)
    points = np.asarray(positions, np.float64).copy()
    for cell in range(len(cells)):
        steps = np.flatnonzero(cell_of == cell)
        visit = np.arange(len(steps))
        radius = min(SPIRAL_STEP, SPIRAL_END / math.sqrt(len(steps))) * np.sqrt(visit)
        turn = GOLDEN_ANGLE * visit
        points[steps] += np.stack([radius * np.cos(turn), radius * np.sin(turn)], axis=1)
    return points
