"""A chart of bars, one for each of K numbers, however many."""

import dataclasses
from collections.abc import Callable

import numpy as np

from icrl.gym.render.canvas import BLUE, INK, LINE, PANEL, QUIET, Color, box, text_width, write


@dataclasses.dataclass(frozen=True)
class BarChart:
    """The rectangle in pixels, the range of values, the number of bars."""

    left: int
    top: int
    right: int
    bottom: int
    low: float
    high: float
    num_bars: int

    def draw_panel(self, pixels: np.ndarray, marked: int | None = None) -> None:
        """The ground, with the column of bar ``marked`` set off."""
        box(pixels, self.left, self.top, self.right, self.bottom, PANEL)
        if marked is not None:
            start, end = self.column(marked)
            box(pixels, start, self.top, end, self.bottom, LINE)

    def draw_bars(self, pixels: np.ndarray, values: np.ndarray, color_of: Callable[[int], Color] | None = None) -> None:
        """Bars from zero, or from the edge that is nearest to it, and the line of zero; NaN draws no bar."""
        zero = self.height(min(max(0.0, self.low), self.high))
        for number, value in enumerate(values):
            if np.isfinite(value):
                start, end = self.column(number)
                gap = 0.15 * (end - start) if end - start >= 3 else 0.0
                ends = sorted((zero, self.height(float(value))))
                color = color_of(number) if color_of else BLUE
                box(pixels, start + gap, ends[0], end - gap, max(ends[1], ends[0] + 1), color)
        box(pixels, self.left, zero - 0.5, self.right, zero + 0.5, QUIET)

    def draw_ticks(self, pixels: np.ndarray, values: np.ndarray, color_of: Callable[[int], Color]) -> None:
        """A short line across each column at the height of its value."""
        for number, value in enumerate(values):
            start, end = self.column(number)
            height = self.height(float(value))
            box(pixels, start, height - 1.5, end, height + 1.5, color_of(number))

    def draw_values(self, pixels: np.ndarray, values: np.ndarray) -> None:
        """Values other than 0 in figures at the ends of their bars, where there is room."""
        room = (self.right - self.left) / self.num_bars
        for number, value in enumerate(values):
            told = f"{value:.3g}"
            if value and text_width(told) < room:
                beside = self.height(float(value)) + (-9 if value > 0 else 2)
                write(pixels, (sum(self.column(number)) / 2, beside), told, INK, align=0.5)

    def draw_numbers(self, pixels: np.ndarray) -> None:
        """The number of each bar below it, of as many as there is room for."""
        room = (self.right - self.left) / self.num_bars
        every = max(int(np.ceil((text_width(str(self.num_bars)) + 4) / room)), 1)
        for number in range(0, self.num_bars, every):
            half = text_width(str(number)) / 2
            middle = min(max(sum(self.column(number)) / 2, self.left + half), self.right - half)
            write(pixels, (middle, self.bottom + 4), str(number), INK, align=0.5)

    def column(self, number: int) -> tuple[float, float]:
        """The left and the right border of a bar's column."""
        room = (self.right - self.left) / self.num_bars
        return self.left + number * room, self.left + (number + 1) * room

    def height(self, value: float) -> float:
        """How far down ``value`` is, cut to the range."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return self.bottom - share * (self.bottom - self.top)
