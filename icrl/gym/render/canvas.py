"""Drawing on an array of pixels [H, W, 3] uint8 with NumPy: boxes, discs, lines, letters, all with smooth edges.

Points are (x, y) in pixels, x to the right and y down. Every function changes ``pixels`` and is cut off at its borders.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from icrl.gym.render.font import letters

Color = tuple[int, int, int]
Point = Sequence[float] | np.ndarray  # (x, y)

PAPER, PANEL, INK, QUIET, LINE = (255, 255, 255), (246, 246, 243), (34, 34, 34), (120, 120, 120), (218, 218, 214)
BLUE, ORANGE, GREEN, RED = (0, 114, 178), (230, 159, 0), (0, 158, 115), (213, 94, 0)  # after Okabe and Ito
ACTION_COLORS = (BLUE, ORANGE, GREEN, RED, (204, 121, 167), (86, 180, 233), (150, 130, 40), (90, 90, 90))


class Cover(NamedTuple):
    """Some pixels and how much of each is covered, [n] each."""

    y: np.ndarray  # int
    x: np.ndarray  # int
    share: np.ndarray  # float32 in [0, 1]


def action_color(action: int) -> Color:
    """The colour of an action, again from the first when there are many."""
    return ACTION_COLORS[action % len(ACTION_COLORS)]


def mixed(color: Color, other: Color, share: float) -> Color:
    """``color`` with a ``share`` in [0, 1] of ``other``."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(color, other, strict=True))
    return red, green, blue


def paint(pixels: np.ndarray, left: int, top: int, cover: np.ndarray, color: Color) -> None:
    """Lay ``color`` over the pixels from (left, top), as thick as ``cover`` [h, w] in [0, 1] says."""
    height, width = pixels.shape[:2]
    x, y = max(-left, 0), max(-top, 0)
    cover = cover[y : max(height - top, 0), x : max(width - left, 0)]
    part = pixels[top + y : top + y + cover.shape[0], left + x : left + x + cover.shape[1]]
    part[:] = part + cover[..., None] * (np.array(color, np.float32) - part) + np.float32(0.5)


def box(pixels: np.ndarray, left: float, top: float, right: float, bottom: float, color: Color) -> None:
    """A filled rectangle with borders between whole pixels; never thinner than one pixel."""
    x, y = max(round(left), 0), max(round(top), 0)
    pixels[y : max(round(bottom), y + 1), x : max(round(right), x + 1)] = color


def disc(pixels: np.ndarray, center: Point, radius: float, color: Color, share: float = 1.0) -> None:
    """A filled circle that covers ``share`` of what is below it."""
    x, y = (round(2 * float(value)) for value in center)  # to half a pixel, so that few covers serve all
    cover = _disc_cover(radius, x % 2, y % 2)
    reach = cover.shape[0] // 2
    paint(pixels, x // 2 - reach, y // 2 - reach, cover if share == 1.0 else np.float32(share) * cover, color)


def stroke(pixels: np.ndarray, points: np.ndarray, width: float, color: Color, share: float = 1.0) -> None:
    """A line of ``width`` along the corners ``points`` [n, 2]."""
    _paint_few(pixels, _stroke_cover(np.asarray(points, np.float32).tobytes(), width), color, share)


def arrow(pixels: np.ndarray, points: np.ndarray, width: float, color: Color, share: float = 1.0) -> None:
    """A line along ``points`` [n, 2] with a head at the last one."""
    points = np.asarray(points, np.float32)
    along = points[-1] - points[-2]
    along = along / max(float(np.hypot(*along)), 1e-6)
    size = 4 + 1.5 * width
    stroke(pixels, np.concatenate([points[:-1], [points[-1] - along * size * 0.6]]), width, color, share)
    aside = np.array([-along[1], along[0]]) * size * 0.5
    wedge = np.array([points[-1], points[-1] - along * size + aside, points[-1] - along * size - aside])
    triangle(pixels, wedge, color, max(share, 0.5))


def triangle(pixels: np.ndarray, corners: np.ndarray, color: Color, share: float = 1.0) -> None:
    """A filled triangle with the given ``corners`` [3, 2]."""
    _paint_few(pixels, _triangle_cover(np.asarray(corners, np.float32).tobytes()), color, share)


def write(
    pixels: np.ndarray, at: tuple[float, float], text: str, color: Color = INK, scale: int = 1, align: float = 0.0
) -> None:
    """``text`` with its top left corner ``at``; ``align`` 0.5 centres it there, 1 ends it there."""
    dots = letters(text, scale)
    paint(pixels, round(at[0] - align * dots.shape[1]), round(at[1]), dots.astype(np.float32), color)


def text_width(text: str, scale: int = 1) -> int:
    """Pixels from the first to the last column of ``text``."""
    return letters(text, scale).shape[1]


def _paint_few(pixels: np.ndarray, cover: Cover, color: Color, share: float) -> None:
    """``paint`` where only a few pixels of a large rectangle are touched."""
    inside = (cover.x >= 0) & (cover.x < pixels.shape[1]) & (cover.y >= 0) & (cover.y < pixels.shape[0])
    y, x, shares = cover.y[inside], cover.x[inside], np.float32(share) * cover.share[inside, None]
    below = pixels[y, x]
    pixels[y, x] = below + shares * (np.array(color, np.float32) - below) + np.float32(0.5)


@functools.lru_cache(maxsize=2048)
def _stroke_cover(points: bytes, width: float) -> Cover:
    """What a line along the corners ``points`` [n, 2] float32 covers; pictures of one run repeat most of theirs."""
    dense = _every_pixel(np.frombuffer(points, np.float32).reshape(-1, 2))
    reach = int(np.ceil(width / 2 + 0.5))
    around = np.arange(-reach, reach + 1)
    base = np.floor(dense).astype(np.int64)
    low = base.min(axis=0) - reach
    columns, lines = (base[:, axis, None] + around for axis in (0, 1))  # [n, pixels around]
    half = np.float32(0.5)
    across, down = (columns + half - dense[:, :1]) ** 2, (lines + half - dense[:, 1:]) ** 2
    distance = np.sqrt(down[:, :, None] + across[:, None, :])
    size = base.max(axis=0) + reach + 1 - low
    shares = np.zeros(size[0] * size[1], np.float32)
    cells = (lines - low[1])[:, :, None] * size[0] + (columns - low[0])[:, None, :]
    np.maximum.at(shares, cells.reshape(-1), np.clip(width / 2 + 0.5 - distance, 0, 1).astype(np.float32).reshape(-1))
    used = np.flatnonzero(shares)
    return Cover(used // size[0] + low[1], used % size[0] + low[0], shares[used])


@functools.lru_cache(maxsize=2048)
def _triangle_cover(corners: bytes) -> Cover:
    """What the triangle with ``corners`` [3, 2] float32 covers."""
    points = np.frombuffer(corners, np.float32).reshape(3, 2)
    low, high = np.floor(points.min(axis=0)).astype(int), np.ceil(points.max(axis=0)).astype(int)
    x, y = np.meshgrid(np.arange(low[0], high[0] + 1), np.arange(low[1], high[1] + 1))
    depth = np.full(x.shape, np.inf)  # of a pixel's middle inside the nearest edge
    edges = np.roll(points, -1, axis=0) - points
    turn = np.sign(edges[0, 0] * edges[1, 1] - edges[0, 1] * edges[1, 0]) or 1.0
    for (left, top), (along_x, along_y) in zip(points, edges, strict=True):
        across = along_x * (y + 0.5 - top) - along_y * (x + 0.5 - left)
        depth = np.minimum(depth, turn * across / max(float(np.hypot(along_x, along_y)), 1e-6))
    used = depth > -0.5
    return Cover(y[used], x[used], np.clip(depth[used] + 0.5, 0, 1).astype(np.float32))


@functools.lru_cache(maxsize=512)
def _disc_cover(radius: float, half_x: int, half_y: int) -> np.ndarray:
    """How much of each pixel a circle covers, [n, n] float32, its centre so many half pixels off the middle one."""
    reach = int(np.ceil(radius + 0.5)) + 1
    span = np.arange(-reach, reach + 1) + 0.5
    distance = np.hypot(span - half_x / 2, (span - half_y / 2)[:, None])
    return np.clip(radius - distance + 0.5, 0, 1).astype(np.float32)


def _every_pixel(points: np.ndarray) -> np.ndarray:
    """``points`` [n, 2] with so many between them that none is further than a pixel from the next."""
    lengths = np.hypot(*np.diff(points, axis=0).T)
    travelled = np.concatenate([[0.0], np.cumsum(lengths)])
    wanted = np.linspace(0.0, travelled[-1], int(travelled[-1]) + 2)
    return np.stack([np.interp(wanted, travelled, points[:, axis]) for axis in (0, 1)], axis=1).astype(np.float32)
