"""Observations as bars: what is drawn of an environment that says nothing of how it looks."""

import numpy as np

from icrl.core.scenes import Episode, Readings
from icrl.gym.render.canvas import QUIET, write
from icrl.gym.render.charts import BarChart

MOST = 96  # values that are told in words


def draw(pixels: np.ndarray, readings: Readings, episode: Episode) -> None:
    """A bar for each number on ``pixels`` [P, P, 3]."""
    del episode
    side = pixels.shape[0]
    write(pixels, (0, 4), "observation", QUIET)
    low, high = _bounds(readings)
    chart = BarChart(left=0, top=20, right=side, bottom=side - 16, low=low, high=high, num_bars=len(readings.values))
    chart.draw_panel(pixels)
    chart.draw_bars(pixels, readings.values)
    chart.draw_numbers(pixels)


def describe(readings: Readings, episode: Episode) -> str:
    """The numbers in a row."""
    del episode
    told = " ".join(f"{value:.3g}" for value in readings.values[:MOST])
    return f"observation {told}" + (f" and {len(readings.values) - MOST} more" if len(readings.values) > MOST else "")


def _bounds(readings: Readings) -> tuple[float, float]:
    """The bounds of the values; where the environment knows none, those of what is seen."""
    bounds = np.array([readings.low, readings.high])
    if np.isfinite(bounds).all() and np.abs(bounds).max() < 1e6 and readings.low < readings.high:
        return readings.low, readings.high
    return min(float(readings.values.min()), 0.0), max(float(readings.values.max()), 1.0)
