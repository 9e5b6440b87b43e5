"""What a filter sees of a data set (returns, never transitions) and what it answers.

Letters: N histories, E whole episodes in each, M histories selected. A history is everything one learner lived through
in one task. ``R_k`` is the return of its episode k; ``Rmax`` and ``Rmin`` are the largest and smallest return of its
task.
"""

import abc
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from icrl.core.errors import InputError, require
from icrl.core.fields import Checked

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ROUNDING = 1e-4  # of Rmax - Rmin: how far float32 sums of rewards may fall below the exact Rmin


class HistoryTable(NamedTuple):
    """The returns of N learning histories; the rows of a task need not stand together."""

    task: Ints  # [N] task id of each history
    returns: Floats  # [N, E] R_k in the order they were lived; an incomplete last episode is left out
    optimal_return: Floats  # [N] Rmax of the history's task; a lucky return may lie above it where rewards are random
    minimal_return: Floats  # [N] Rmin, no return lies below it; 0 where rewards are never negative


class Selection(NamedTuple):
    """The histories to pretrain on, in ascending order."""

    index: Ints  # type: ignore[assignment]  # [M] rows of the table; one that stands here c times weighs c times as much
    first_episode: Ints  # [M] in [0, E): the history is used from this episode on; 0 is the whole history


class Filter(Checked, abc.ABC):
    """A rule that selects histories. Subclasses are frozen dataclasses; their fields are the settings."""

    @abc.abstractmethod
    def select(self, table: HistoryTable, rng: np.random.Generator) -> Selection:
        """The selection, M >= 1, the same for the same ``rng`` state; rules without chance leave ``rng`` alone.

        Raises ``InputError`` for a table that ``checked`` refuses.
        """


def whole(index: NDArray[Any]) -> Selection:
    """The selection of whole histories by index [M], any order."""
    return Selection(np.sort(index).astype(np.int64), np.zeros(len(index), np.int64))


def checked(table: HistoryTable) -> HistoryTable:
    """The table as int64 and float64 arrays; ``InputError`` naming field, history and task when it makes no sense."""
    returns = _numbers("returns", table.returns, "iuf", 2)
    num_histories, num_episodes = returns.shape
    require(num_histories >= 1, "returns", f"{num_histories} histories", "at least one")
    require(num_episodes >= 1, "returns", f"{num_episodes} episodes", "at least one whole episode in each history")
    task = _numbers("task", table.task, "iu", 1)
    highest = _numbers("optimal_return", table.optimal_return, "iuf", 1)
    lowest = _numbers("minimal_return", table.minimal_return, "iuf", 1)
    for field, column in (("task", task), ("optimal_return", highest), ("minimal_return", lowest)):
        require(len(column) == num_histories, f"{field}.shape", column.shape, f"({num_histories},), one per history")

    result = HistoryTable(
        np.asarray(task, np.int64),
        np.asarray(returns, np.float64),
        np.asarray(highest, np.float64),
        np.asarray(lowest, np.float64),
    )
    for field, column in (("optimal_return", result.optimal_return), ("minimal_return", result.minimal_return)):
        _refuse_rows(~np.isfinite(column), result.task, field, column, "a finite number")
        strangers = np.not_equal(column, column[first_row(result.task)])
        _refuse_rows(strangers, result.task, field, column, "one value for all histories of a task")
    odd = ~np.isfinite(result.returns)
    first_odd = result.returns[np.arange(num_histories), np.argmax(odd, axis=1)]
    _refuse_rows(np.count_nonzero(odd, axis=1) > 0, result.task, "returns", first_odd, "finite numbers")
    smallest = result.returns.min(1)
    floor = result.minimal_return - ROUNDING * np.abs(result.optimal_return - result.minimal_return)
    _refuse_rows(smallest < floor, result.task, "returns", smallest, "no return below the task's minimal_return")
    return result


def groups(task: Ints) -> Ints:
    """Tasks numbered 0 .. K-1 in ascending order of their ids: [N] to [N]."""
    return np.unique(task, return_inverse=True)[1].astype(np.int64)


def first_row(task: Ints) -> Ints:
    """For each history the first row of the same task: [N] to [N]."""
    _, first, inverse = np.unique(task, return_index=True, return_inverse=True)
    return first[inverse].astype(np.int64)


def span(table: HistoryTable) -> Floats:
    """``Rmax - Rmin`` [N] of a checked table; ``InputError`` naming the task where it is not above 0."""
    size = table.optimal_return - table.minimal_return
    allowed = "above the task's minimal_return; leave out tasks in which nothing can be gained"
    _refuse_rows(size <= 0, table.task, "optimal_return", table.optimal_return, allowed)
    return size


def end_means(returns: Floats) -> tuple[Floats, Floats]:
    """Mean return of the first and of the last tenth of the episodes: [N, E] to ([N], [N]).

    A tenth is at least 5 episodes, or all of them where there are fewer, as in ICRL4AHT's data pipeline; below 10
    episodes the two windows overlap.
    """
    num_episodes = returns.shape[1]
    window = min(max(5, num_episodes // 10), num_episodes)
    return returns[:, :window].mean(1), returns[:, num_episodes - window :].mean(1)


def _numbers(field: str, value: Any, kinds: str, rank: int) -> NDArray[Any]:
    try:
        array = np.asarray(value)
    except ValueError as error:  # rows of different lengths
        raise InputError(f"{field}: not an array: {error}") from error
    shape = "[N, E]" if rank == 2 else "[N]"
    allowed = f"{'integers' if kinds == 'iu' else 'numbers'} of shape {shape}"
    require(array.ndim == rank and array.dtype.kind in kinds, field, f"{array.dtype} of shape {array.shape}", allowed)
    return array


def _refuse_rows(bad: NDArray[np.bool_], task: Ints, field: str, found: Floats, allowed: str) -> None:
    if bad.any():
        row = int(np.argmax(bad))
        require(False, f"{field} of history {row} (task {task[row]})", float(found[row]), allowed)
