"""Planes: what moves, where it has been lately, the rods it is made of, and what lies where; y goes up."""

import numpy as np

from icrl.core.scenes import Episode, Plane
from icrl.gym.render.canvas import BLUE, GREEN, INK, LINE, PANEL, PAPER, QUIET, box, disc, mixed, stroke, write

LATEST = 32  # moves drawn as a line
GRID = 8  # squares along each side


def draw(pixels: np.ndarray, plane: Plane, episode: Episode) -> None:
    """The plane on ``pixels`` [P, P, 3]."""
    del episode
    side = pixels.shape[0]
    box(pixels, 0, 0, side, side, INK)
    inside = pixels[3 : side - 3, 3 : side - 3]
    inside[:] = PANEL
    for line in np.linspace(0, inside.shape[0], GRID + 1)[1:-1].round().astype(int):
        inside[line] = inside[:, line] = LINE
    for mark in plane.marks:
        x, y = _places(plane, np.array([mark.at]), inside.shape[0])[0]
        for radius, shade in ((11.0, GREEN), (7.0, PAPER), (3.5, GREEN)):
            disc(inside, (x, y), radius, shade)
        write(inside, (x, y + 13), mark.name, QUIET, align=0.5)
    recent = _places(plane, plane.path[-LATEST - 1 :], inside.shape[0])
    for age, (start, end) in enumerate(zip(recent[-2::-1], recent[:0:-1], strict=True)):
        if np.abs(start - end).max() > 0.5:
            stroke(inside, np.stack([start, end]), 2.0, BLUE, 0.8 * (1 - age / LATEST))
    if plane.rods is not None:
        joints = _places(plane, plane.rods, inside.shape[0])
        stroke(inside, joints, 7.0, mixed(INK, PANEL, 0.25))
        for joint in joints[:-1]:
            disc(inside, joint, 6.0, INK)
    disc(inside, recent[-1], 9.0, PAPER)
    disc(inside, recent[-1], 7.0, BLUE)


def describe(plane: Plane, episode: Episode) -> str:
    """Where it is, and where the landmarks are, in words."""
    del episode
    x, y = plane.path[-1]
    marks = [f"{mark.name} ({mark.at[0]:.3f}, {mark.at[1]:.3f})" for mark in plane.marks]
    return "  ".join([f"@ ({x:.3f}, {y:.3f})", *marks])


def _places(plane: Plane, points: np.ndarray, side: int) -> np.ndarray:
    """``points`` [n, 2] in pixels, [n, 2] float; what lies outside of the square is at its border."""
    shares = np.clip(points / plane.half, -1, 1) * [1, -1]
    return (shares + 1) / 2 * (side - 1) + 0.5
