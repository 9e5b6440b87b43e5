"""Numbered states as a graph: the current one, the way to it, where each action may lead and what it is worth here."""

import functools

import numpy as np
from scipy.spatial import cKDTree

from icrl.core.scenes import Episode, Graph
from icrl.gym.render.canvas import (
    BLUE,
    INK,
    LINE,
    PANEL,
    PAPER,
    QUIET,
    Color,
    action_color,
    arrow,
    box,
    disc,
    mixed,
    stroke,
    text_width,
    write,
)
from icrl.gym.render.charts import BarChart

MAP_BOTTOM = 206  # pixels from the top to the end of the map; the actions are below it
LATEST = 8  # moves drawn as a line
LEAST, MOST = 0.02, 24  # arrows: the least probability, and how many of the likeliest
BEND = 0.18  # of an arrow, relative to its length
LARGEST = 17.0  # radius of a state in pixels
LONGEST_STRIP = 50  # states that a text lists


def draw(pixels: np.ndarray, graph: Graph, episode: Episode) -> None:
    """The map and below it the actions, on ``pixels`` [P, P, 3]."""
    ground, places, radius = _ground(graph.places.tobytes(), graph.labels, pixels.shape[0])
    pixels[:MAP_BOTTOM] = ground
    visits = np.bincount(graph.path, minlength=len(places))
    current = int(graph.path[-1])
    _draw_way(pixels, places[graph.path[-LATEST - 1 :]])
    _draw_arrows(pixels, graph, places, radius)
    labels = _shown(graph.labels, radius)
    for state in np.flatnonzero(visits):
        is_current = bool(state == current)
        fill = BLUE if is_current else mixed(PAPER, BLUE, 0.6 * (1 - 0.6 ** int(visits[state])))
        _draw_state(pixels, places[state], radius, labels[state], fill, is_current)
    _draw_actions(pixels, graph, episode)


def describe(graph: Graph, episode: Episode) -> str:
    """The current state, the way to it, and a line for each action."""
    del episode
    current = int(graph.path[-1])
    way = " > ".join(str(state) for state in graph.path[-LATEST - 1 :])
    lines = [f"state {current} of 0 .. {len(graph.places) - 1}", f"way {way}"]
    if len(graph.places) <= LONGEST_STRIP:
        lines[0] = " ".join(f"[{state}]" if state == current else str(state) for state in range(len(graph.places)))
    for action, (chances, worth) in enumerate(zip(graph.reach, graph.worth, strict=True)):
        likeliest = np.argsort(-chances, kind="stable")[:5]
        goes = ", ".join(f"{state} ({chances[state]:.2f})" for state in likeliest if chances[state] >= LEAST)
        lines.append(f"action {action} pays {worth:.3g} and leads to {goes}")
    return "\n".join(lines)


@functools.lru_cache(maxsize=16)
def _ground(places: bytes, labels: tuple[str, ...], width: int) -> tuple[np.ndarray, np.ndarray, float]:
    """What is the same in all moments: the map with no state visited, where the states are [S, 2], their radius."""
    pixels = np.empty((MAP_BOTTOM, width, 3), np.uint8)
    pixels[:] = PANEL
    shares = np.frombuffer(places).reshape(-1, 2)
    radius = LARGEST
    if len(shares) > 1:
        spread = shares * [width - 44, MAP_BOTTOM - 52]
        nearest = cKDTree(spread).query(spread, k=2)[0][:, 1].min()
        radius = float(np.clip(0.36 * nearest, 2.0, LARGEST))
    margin = np.array([radius + 8, radius + 12])
    points = margin + shares * ([width, MAP_BOTTOM] - 2 * margin)
    for point, label in zip(points, _shown(labels, radius), strict=True):
        _draw_state(pixels, point, radius, label, PAPER, is_current=False)
    return pixels, points, radius


def _draw_state(
    pixels: np.ndarray, point: np.ndarray, radius: float, label: str, fill: Color, is_current: bool
) -> None:
    disc(pixels, point, radius + (2.5 if is_current else 0.0), INK if is_current else QUIET)
    disc(pixels, point, radius - 1.2, fill)
    write(pixels, (point[0] + 0.5, point[1] - 3.5), label, PAPER if is_current else INK, align=0.5)


def _shown(labels: tuple[str, ...], radius: float) -> tuple[str, ...]:
    """All ``labels``, or none where one would not fit into its state."""
    return labels if max(map(text_width, labels)) <= 2 * radius - 2 else ("",) * len(labels)


def _draw_way(pixels: np.ndarray, points: np.ndarray) -> None:
    for age, (start, end) in enumerate(zip(points[-2::-1], points[:0:-1], strict=True)):
        if (start != end).any():
            stroke(pixels, np.stack([start, end]), 5.0, mixed(BLUE, PAPER, 0.5), 0.6 * (1 - age / LATEST))


def _draw_arrows(pixels: np.ndarray, graph: Graph, places: np.ndarray, radius: float) -> None:
    """To each state that may follow, in the colour of the action that leads there most likely."""
    current = int(graph.path[-1])
    action_of, chance = graph.reach.argmax(axis=0), graph.reach.max(axis=0)
    likeliest = np.argsort(-chance, kind="stable")[:MOST]
    for state in (int(state) for state in likeliest[::-1] if chance[state] >= LEAST):
        color, share = action_color(int(action_of[state])), 0.25 + 0.75 * float(chance[state])
        if state == current:
            disc(pixels, places[state], radius + 6.0, color, share)
            disc(pixels, places[state], radius + 4.0, PANEL)
        else:
            width = 1 + round(4 * float(chance[state])) / 2  # few widths, so that most arrows are drawn once
            arrow(pixels, _bent(places[current], places[state], radius), width, color, share)


def _bent(start: np.ndarray, end: np.ndarray, radius: float) -> np.ndarray:
    """An arc [12, 2] from the border of one state to that of another, to the left of the way."""
    along = end - start
    top = (start + end) / 2 + BEND * np.array([along[1], -along[0]])
    t = np.linspace(0, 1, 40)[:, None]
    arc = (1 - t) ** 2 * start + 2 * t * (1 - t) * top + t**2 * end
    free = (np.hypot(*(arc - start).T) >= radius) & (np.hypot(*(arc - end).T) >= radius + 3)
    return arc[free] if free.sum() >= 2 else np.stack([start, end])


def _draw_actions(pixels: np.ndarray, graph: Graph, episode: Episode) -> None:
    """Expected reward of each action in the current state, in its colour; the last action's column is set off."""
    side = pixels.shape[0]
    low, high = min(float(graph.worth.min()), 0.0), max(float(graph.worth.max()), 0.0)
    room = max(high - low, 1e-3) * 0.4  # for figures
    low, high = low - (room if low < 0 else 0.0), high + room
    write(pixels, (0, MAP_BOTTOM + 8), "expected reward of each action here", QUIET)
    chart = BarChart(
        left=0, top=MAP_BOTTOM + 20, right=side, bottom=side - 14, low=low, high=high, num_bars=len(graph.worth)
    )
    box(pixels, 0, chart.top, side, chart.bottom, LINE)
    chart.draw_panel(pixels, episode.action)
    chart.draw_bars(pixels, graph.worth, action_color)
    chart.draw_values(pixels, graph.worth)
    chart.draw_numbers(pixels)
