"""Episodes of stored histories, cut where their flags say that one ended."""

from typing import NamedTuple

import numpy as np

from icrl.core.errors import require


class Episodes(NamedTuple):
    """The n finished episodes of N histories, row after row."""

    row: np.ndarray  # [n] int64
    start: np.ndarray  # [n] int64, first step
    length: np.ndarray  # [n] int64, steps
    total: np.ndarray  # [n] float64, return


def finished_episodes(reward: np.ndarray, ends: np.ndarray) -> Episodes:
    """The episodes of reward [N, T] that ended, by ends [N, T] bool, the last steps of episodes."""
    starts, last = _stretches(ends)
    row, start = np.divmod(starts, ends.shape[1])
    made = Episodes(row, start, last - starts + 1, _totals(reward, starts))
    return Episodes(*(field[ends.reshape(-1)[last]] for field in made))


def shortest_episode(ends: np.ndarray, num_steps: int) -> int:
    """Steps of the shortest finished episode, T = ``num_steps`` if none ended; ``ends`` [..., T or 1]: last steps."""
    rows = np.broadcast_to(ends, (*ends.shape[:-1], num_steps))
    row, step = np.divmod(np.flatnonzero(rows), num_steps)
    before = np.where(np.diff(row, prepend=-1) == 0, np.roll(step, 1), -1)
    return int((step - before).min(initial=num_steps))


def returns_between_flags(reward: np.ndarray, ends: np.ndarray, stretch: int) -> np.ndarray:
    """The mean return of the episodes that ended in each stretch of ``stretch`` steps, [n, R, T / stretch] float64.

    Where none did it is that of the stretch before, and before the first end that of the first.

    Args:
      reward: [n, R, T]; T is a multiple of ``stretch``.
      ends: [n, R, T] bool, the last steps of episodes.

    Raises:
      InputError: a history in which no episode ends.
    """
    *rows, num_steps = reward.shape
    num = num_steps // stretch
    starts, last = _stretches(ends)
    finished = ends.reshape(-1)[last]
    cell = last[finished] // stretch
    count = np.bincount(cell, minlength=ends.size // stretch).reshape(-1, num)
    total = np.bincount(cell, _totals(reward, starts)[finished], ends.size // stretch).reshape(-1, num)
    mean = total / np.maximum(count, 1)
    never = np.flatnonzero(count.sum(1) == 0)
    require(never.size == 0, "episodes", f"none that ends in history {never[:1]} of a shard", "one in each history")
    latest = np.maximum.accumulate(np.where(count > 0, np.arange(num), -1), axis=1)
    latest = np.where(latest < 0, np.argmax(count > 0, axis=1)[:, None], latest)
    return np.take_along_axis(mean, latest, 1).reshape(*rows, num)


def _stretches(ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last steps of all episodes, unfinished ones at the end of a row too, counted through ends [..., T]."""
    first = np.zeros(ends.shape, bool)
    first[..., 0], first[..., 1:] = True, ends[..., :-1]
    starts = np.flatnonzero(first)
    return starts, np.append(starts[1:], first.size) - 1


def _totals(reward: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Sums of reward between starts, in float64."""
    return np.add.reduceat(np.asarray(reward, np.float64).reshape(-1), starts)
