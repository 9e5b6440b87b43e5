"""Contexts in order of return: whole episodes of a task, the worst first, in place of consecutive ones of one history.

So T2MIR-AD is trained (Wu et al. 2025, released code): on four episodes of a task, which need not follow one another,
in ascending order of return. What is distilled is then an improvement from any history to a better one, not a
learner's own pace.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import numpy as np

from icrl.core.errors import require
from icrl.core.types import History
from icrl.datasets.windows import Windows, windows_at


class _Pool(NamedTuple):
    """The m episodes that contexts of one task are drawn from, in order of return, ties by time and then by row."""

    row: np.ndarray  # [m]
    start: np.ndarray  # [m]
    length: np.ndarray  # [m]
    weight: np.ndarray  # [m], how often the episode's history was chosen


@dataclasses.dataclass(frozen=True, eq=False)
class SortedWindows(Windows):
    """Batches of C transitions of different episodes of a task, in ascending order of return.

    ``kin`` [N] is the task of each row. A context's task is that of the row that ``Windows`` would cut; its episodes
    are drawn one by one among the finished ones of all chosen rows of that task, each as likely as its row occurs in
    ``index`` and none twice, until they have C transitions. Ties of return stand in order of time. Where lengths do
    not add up to C, the context begins inside its worst episode, as a window by time begins inside some episode.
    ``stride`` is of no account.
    """

    kin: np.ndarray = dataclasses.field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        fewest = min(int(pool.length.sum()) for pool in self._pools.values())
        allowed = f"at most {fewest}, the transitions of finished episodes in every task, in order of return"
        require(self.window <= fewest, "window", self.window, allowed)

    def __call__(self, step: int) -> History:
        """The batch of ``step``: History [B, C, ...] float32, int32 and bool, on the device."""
        rows, steps = self.transitions(step)
        first = slice(None, None, self._piece)  # pieces of consecutive transitions are cut whole
        pieces = windows_at(self.histories, rows[:, first].reshape(-1), steps[:, first].reshape(-1), self._piece)
        return jax.tree.map(lambda field: field.reshape(*rows.shape, *field.shape[2:]), pieces)

    def transitions(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Row and step [B, C] int64 of every transition in the batch of ``step``."""
        draw = np.random.default_rng([*self.seed, step])
        tasks = self.kin[self.index[self._chosen(draw)]]
        rows, steps = zip(*(self._context(draw, self._pools[int(task)]) for task in tasks), strict=True)
        return np.stack(rows), np.stack(steps)

    def _context(self, draw: np.random.Generator, pool: _Pool) -> tuple[np.ndarray, np.ndarray]:
        """Row and step [C] of one context's transitions."""
        waits = draw.exponential(size=pool.row.size) / pool.weight  # who comes first is drawn first, and so on
        order = np.argsort(waits)
        count = int(np.searchsorted(np.cumsum(pool.length[order]), self.window)) + 1
        chosen = np.sort(order[:count])
        length = pool.length[chosen]
        within = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
        steps = np.repeat(pool.start[chosen], length) + within
        return np.repeat(pool.row[chosen], length)[-self.window :], steps[-self.window :]

    @functools.cached_property
    def _pools(self) -> dict[int, _Pool]:
        """By task, what its contexts are made of."""
        rows, place, weight = np.unique(self.index, return_index=True, return_counts=True)
        first = np.zeros(rows.size, np.int64) if self.first is None else self.first[place]
        episodes, (num_rows, num_steps) = self.histories.episodes, self.histories.shape
        begins, weights = np.full(num_rows, num_steps), np.zeros(num_rows, np.int64)  # of rows not chosen: never
        begins[rows], weights[rows] = first, weight
        kept = np.flatnonzero(episodes.start >= begins[episodes.row])
        kept = kept[np.lexsort((episodes.row[kept], episodes.start[kept], episodes.total[kept]))]
        own = self.kin[episodes.row[kept]]
        tasks = np.unique(self.kin[rows])
        bounds = np.searchsorted(own, tasks, sorter=(by_task := np.argsort(own, kind="stable")))
        columns = (episodes.row, episodes.start, episodes.length, weights[episodes.row])
        parts = np.split(kept[by_task], bounds[1:])
        return {int(task): _Pool(*(column[at] for column in columns)) for task, at in zip(tasks, parts, strict=True)}

    @functools.cached_property
    def _piece(self) -> int:
        """Transitions, as many as can be, into whole multiples of which all episodes and C fall."""
        lengths = [pool.length for pool in self._pools.values()]
        return int(np.gcd.reduce(np.concatenate([*lengths, [self.window]])))
