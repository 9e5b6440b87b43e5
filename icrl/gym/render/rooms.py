"""Rooms: the agent, the cells it has been to, its latest moves, and what lies where; y goes up."""

import numpy as np

from icrl.core.scenes import Episode, Landmark, Room
from icrl.gym.render.canvas import (
    BLUE,
    GREEN,
    INK,
    LINE,
    ORANGE,
    PANEL,
    PAPER,
    RED,
    Color,
    box,
    disc,
    mixed,
    stroke,
    triangle,
    write,
)

LATEST = 24  # moves drawn as a line
COLORS = {"goal": GREEN, "key": ORANGE, "door": RED}


def draw(pixels: np.ndarray, room: Room, episode: Episode) -> None:
    """The room on ``pixels`` [P, P, 3]."""
    del episode
    side = pixels.shape[0]
    cell = (side - 6) // room.size
    low = (side - cell * room.size) // 2  # the walls are outside of it
    high = low + cell * room.size
    box(pixels, low - 3, low - 3, high + 3, high + 3, INK)
    floor = pixels[low:high, low:high]
    floor[:] = _floor(room).repeat(cell, axis=0).repeat(cell, axis=1)
    if cell >= 5:
        floor[cell::cell] = floor[:, cell::cell] = LINE
    centers = _centers(room.path, cell, room.size)
    for number, landmark in enumerate(room.landmarks):
        shares_cell = any(landmark.cell == other.cell for other in room.landmarks[:number])
        _draw_landmark(floor, landmark, _centers(np.array([landmark.cell]), cell, room.size)[0], cell, shares_cell)
    recent = centers[-LATEST - 1 :]
    for age, (start, end) in enumerate(zip(recent[-2::-1], recent[:0:-1], strict=True)):
        if (start != end).any():
            stroke(floor, np.stack([start, end]), max(0.09 * cell, 1.5), BLUE, 0.75 * (1 - age / LATEST))
    x, y = centers[-1]
    disc(floor, (x, y), max(0.34 * cell, 4.0), PAPER)
    disc(floor, (x, y), max(0.29 * cell, 3.0), BLUE)


def describe(room: Room, episode: Episode) -> str:
    """A line for each row of the room, the agent as @, been-to cells as +, landmarks by their first letters."""
    del episode
    grid = np.full((room.size, room.size), ".", dtype="<U1")  # [y, x]
    grid[room.path[:, 1], room.path[:, 0]] = "+"
    for landmark in room.landmarks:
        x, y = landmark.cell
        grid[y, x] = landmark.name[0] if landmark.is_spent else landmark.name[0].upper()
    x, y = room.path[-1]
    grid[y, x] = "@"
    spent = {True: ", done", False: ""}
    legend = [f"{mark.name} {mark.cell}{spent[mark.is_spent]}" for mark in room.landmarks]
    return "\n".join(" ".join(row) for row in grid[::-1]) + f"\n@ ({x}, {y})  " + "  ".join(legend)


def _floor(room: Room) -> np.ndarray:
    """The colour of each cell, the darker the more often it was visited, uint8 [size, size, 3] from top to bottom."""
    visits = np.zeros((room.size, room.size))
    np.add.at(visits, (room.path[:, 1], room.path[:, 0]), 1)
    share = (0.55 * (1 - 0.7**visits))[::-1, :, None]
    return (np.array(PANEL) + share * (np.array(mixed(BLUE, PAPER, 0.35)) - PANEL)).astype(np.uint8)


def _centers(cells: np.ndarray, cell: int, size: int) -> np.ndarray:
    """The middle of ``cells`` [n, 2], in pixels, [n, 2] float."""
    return (np.stack([cells[:, 0], size - 1 - cells[:, 1]], axis=1) + 0.5) * cell + 0.5


def _draw_landmark(pixels: np.ndarray, landmark: Landmark, center: np.ndarray, cell: int, in_a_corner: bool) -> None:
    """Its picture, or its first letter; pale when spent, small where another one has the cell."""
    x, y = center
    half = max(0.42 * cell, 3.0)
    if in_a_corner:
        x, y, half = x + 0.22 * cell, y + 0.22 * cell, 0.2 * cell
    color = COLORS.get(landmark.name, INK)
    color = mixed(color, PANEL, 0.65) if landmark.is_spent else color
    if half < 4:
        box(pixels, x - half, y - half, x + half, y + half, color)
    elif landmark.name == "goal":
        _draw_flag(pixels, x, y, half, color)
    elif landmark.name == "key":
        _draw_key(pixels, x, y, half, color)
    elif landmark.name == "door":
        _draw_door(pixels, x, y, half, color)
    else:
        box(pixels, x - half, y - half, x + half, y + half, color)
        write(pixels, (x, y - 4), landmark.name[0].upper(), PAPER, align=0.5)


def _draw_flag(pixels: np.ndarray, x: float, y: float, half: float, color: Color) -> None:
    pole = np.array([[x - 0.45 * half, y + 0.85 * half], [x - 0.45 * half, y - 0.85 * half]])
    stroke(pixels, pole, max(0.16 * half, 1.5), mixed(color, INK, 0.4))
    cloth = [[-0.4, -0.9], [0.8, -0.4], [-0.4, 0.1]]
    triangle(pixels, np.array([x, y]) + half * np.array(cloth), color)


def _draw_key(pixels: np.ndarray, x: float, y: float, half: float, color: Color) -> None:
    thick = max(0.2 * half, 1.5)
    for line in ([[-0.1, 0], [0.85, 0]], [[0.75, 0], [0.75, 0.4]], [[0.4, 0], [0.4, 0.35]]):
        stroke(pixels, np.array([x, y]) + half * np.array(line), thick, color)
    disc(pixels, (x - 0.45 * half, y), 0.42 * half, color)
    disc(pixels, (x - 0.45 * half, y), 0.18 * half, PANEL)


def _draw_door(pixels: np.ndarray, x: float, y: float, half: float, color: Color) -> None:
    box(pixels, x - 0.62 * half, y - 0.9 * half, x + 0.62 * half, y + 0.9 * half, mixed(color, INK, 0.45))
    box(pixels, x - 0.46 * half, y - 0.74 * half, x + 0.46 * half, y + 0.9 * half, color)
    disc(pixels, (x + 0.25 * half, y + 0.1 * half), max(0.12 * half, 1.0), PAPER)
