"""Arms of a bandit: above, bars of mean rewards so far with ticks at the true means; below, pulls of each arm."""

import numpy as np

from icrl.core.scenes import Arms, Episode
from icrl.gym.render.canvas import BLUE, GREEN, INK, PAPER, QUIET, mixed, write
from icrl.gym.render.charts import BarChart

BAR = 24  # characters of the longest bar in a text
SPLIT = 178  # pixels from the top to the end of the upper chart


def draw(pixels: np.ndarray, arms: Arms, episode: Episode) -> None:
    """Both charts on ``pixels`` [P, P, 3]; the last arm's column is set off, the best arm's tick is green."""
    side, num_arms, best = pixels.shape[0], len(arms.means), int(arms.means.argmax())
    low, high = _range(arms.means)
    upper = BarChart(left=0, top=18, right=side, bottom=SPLIT, low=low, high=high, num_bars=num_arms)
    lower = BarChart(
        left=0, top=SPLIT + 32, right=side, bottom=side - 14, low=0.0, high=max(int(arms.counts.max()), 5) * 1.2,
        num_bars=num_arms,
    )  # fmt: skip
    write(pixels, (0, 4), f"mean reward, {low:.3g} to {high:.3g}", BLUE)
    write(pixels, (side, 4), "ticks are true means", QUIET, align=1.0)
    upper.draw_panel(pixels, episode.action)
    upper.draw_bars(pixels, _observed(arms), lambda arm: mixed(BLUE, PAPER, 0.25))
    upper.draw_ticks(pixels, arms.means, lambda arm: GREEN if arm == best else INK)
    write(pixels, (0, SPLIT + 18), "pulls", BLUE)
    lower.draw_panel(pixels, episode.action)
    lower.draw_bars(pixels, arms.counts.astype(float))
    lower.draw_values(pixels, arms.counts)
    lower.draw_numbers(pixels)


def describe(arms: Arms, episode: Episode) -> str:
    """A line for each arm."""
    del episode
    longest, lines = max(int(arms.counts.max()), 1), []
    for arm, (count, mean, true) in enumerate(zip(arms.counts, _observed(arms), arms.means, strict=True)):
        bar = "#" * round(BAR * int(count) / longest)
        so_far = f"mean {mean:8.3f}" if count else "no mean yet  "
        lines.append(f"arm {arm:3d} {bar:{BAR}s} {count:6d} pulls, {so_far}, true {true:8.3f}")
    return "\n".join(lines)


def _observed(arms: Arms) -> np.ndarray:
    """Mean reward of each arm so far, [K]; NaN for one never pulled."""
    return np.where(arms.counts > 0, arms.sums / np.maximum(arms.counts, 1), np.nan)


def _range(means: np.ndarray) -> tuple[float, float]:
    """What the upper chart shows: 0 to 1 where true means are in there, else room for all of them, in round numbers."""
    low, high = float(means.min()), float(means.max())
    if low >= 0.0 and 0.2 <= high <= 1.0:
        return 0.0, 1.0
    low, high = min(low, 0.0), max(high, 0.0)
    spread = 1.3 * max(high - low, 1e-6)
    unit = 10.0 ** np.floor(np.log10(spread))
    step = next(unit * part for part in (0.2, 0.5, 1.0, 2.0) if spread <= 10 * part * unit)
    below = step * np.floor((low - (0.1 * spread if low < 0 else 0)) / step)
    return float(below), float(step * np.ceil((high + 0.1 * spread) / step))
