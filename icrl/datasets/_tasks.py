"""Arrays of somebody else's tasks in one form: what must be known of each before anything is written, and how to cut.

Letters: R histories of T steps each in a task, O the shape of one observation.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from icrl.core.errors import InputError, require
from icrl.datasets._checks import (
    ACTIONS,
    NEEDED,
    NEXT,
    OBSERVATIONS,
    TERMINATED,
    TRUNCATED,
    integers,
    shifted,
)
from icrl.storage.paths import show

REFUSE, CUT = "refuse", "cut"
UNEQUAL = (REFUSE, CUT)  # what is done with histories of different lengths

Arrays = Mapping[str, Any]  # names of ``_checks`` to arrays [R, T, ...] of one task, or R of them [T, ...]


class Survey(NamedTuple):
    """What one task has, as far as it must be known before anything is written."""

    lengths: list[int]  # of each of its histories
    ends: list[np.ndarray]  # of each, the steps that end an episode, ascending
    most: int  # the largest action
    low: float  # the least number in an observation
    high: float
    obs_shape: tuple[int, ...]
    obs_dtype: np.dtype
    names: frozenset[str]  # of its arrays


class Episodes(NamedTuple):
    """Steps of episodes."""

    longest: int  # also of one that does not end; T where none does
    shortest: int  # that ends; T where none does
    some_end: bool


@dataclasses.dataclass(frozen=True)
class Tasks:
    """Where the arrays of N tasks are; one task is in memory at a time."""

    ids: Sequence[int]  # [N]
    read: Callable[[int], Arrays]  # of the task at a position
    where: Callable[[int], str]  # what to call it: a file, or its id
    survey: Callable[[int], Survey] | None = None  # of the task at a position; None: its arrays are read for it


@dataclasses.dataclass(frozen=True)
class Form:
    """Arrays of every task in one form, cut if they are longer."""

    tasks: Tasks
    num_histories: int
    num_steps: int

    def of_task(self, at: int, names: Sequence[str] = ()) -> dict[str, np.ndarray]:
        """Arrays [R, T, ...] of the task at a position, all or those called ``names``."""
        arrays = self.tasks.read(at)
        where = self.tasks.where(at)
        found = {name: self._stacked(name, arrays[name], where) for name in names or arrays}
        if OBSERVATIONS in found:
            for name in (OBSERVATIONS, NEXT):
                if name in found and found[name].ndim == 2:  # one number is an observation of shape [1]
                    found[name] = found[name][..., None]
            if NEXT not in found:
                over = (found[TERMINATED] != 0) | (found[TRUNCATED] != 0)
                found[NEXT] = shifted(found[OBSERVATIONS], over)
        return found

    def _stacked(self, name: str, array: Any, where: str) -> np.ndarray:
        rows = [np.asarray(row)[: self.num_steps] for row in array[: self.num_histories]]
        shapes = {row.shape for row in rows}
        require(len(shapes) == 1, f"{where}: {name}: shapes", sorted(shapes), "one for all histories")
        return np.stack(rows)


def survey_of(arrays: Arrays, place: str) -> Survey:
    rows = {name: _rows(name, array, place) for name, array in arrays.items()}
    for name in NEEDED:
        require(name in rows, f"{place}: {name}", "nothing", "an array")
    lengths = [len(row) for row in rows[ACTIONS]]
    for name, each in rows.items():
        found = [len(row) for row in each]
        require(found == lengths, f"{place}: {name}", _words(found), f"{_words(lengths)}, as {ACTIONS} has")
    require(min(lengths, default=0) >= 1, f"{place}: {ACTIONS}", "no step", "at least one in each history")
    for row in rows[ACTIONS]:
        hint = "continuous actions cannot be predicted here"
        integers(ACTIONS, row, place, hint)
        require(row.ndim == 1, f"{place}: {ACTIONS}: shape", row.shape, "[T], one number a step", hint)
    seen = rows[OBSERVATIONS]
    require(seen[0].dtype.kind in "fiub", f"{place}: {OBSERVATIONS}", str(seen[0].dtype), "numbers")
    _refuse_odd(seen, place)
    over = zip(rows[TERMINATED], rows[TRUNCATED], strict=True)
    return Survey(
        lengths,
        [np.flatnonzero((terminated != 0) | (truncated != 0)) for terminated, truncated in over],
        max(int(row.max()) for row in rows[ACTIONS]),
        min(float(np.min(row)) for row in seen),
        max(float(np.max(row)) for row in seen),
        seen[0].shape[1:],
        seen[0].dtype,
        frozenset(rows),
    )


def _refuse_odd(seen: list[np.ndarray], place: str) -> None:
    """Observations that are not finite have no range."""
    for number, row in enumerate(seen):
        odd = ~np.isfinite(row) if row.dtype.kind == "f" else np.zeros(0, bool)
        if odd.any():
            at = tuple(np.argwhere(odd)[0])
            where = f"{place}: {OBSERVATIONS} of history {number}, step {at[0]}"
            require(False, where, row[at].item(), "finite numbers")


def _words(lengths: list[int]) -> str:
    """Lengths of histories for a message."""
    same = len(set(lengths)) == 1
    return f"{len(lengths)} histories of {lengths[0] if same else lengths} steps"


def _rows(name: str, array: Any, place: str) -> list[np.ndarray]:
    """The R arrays [T, ...] of a task."""
    try:
        rows = [np.asarray(row) for row in array]
    except (TypeError, ValueError) as error:
        raise InputError(f"{place}: {name}: not arrays [T, ...]: {show(error)}") from error
    for row in rows:
        require(row.ndim >= 1, f"{place}: {name}", "a number", "arrays [T, ...] of R histories")
    return rows


def form_of(tasks: Tasks, each: list[Survey], unequal: str, said: list[str]) -> Form:
    """(R, T) of all tasks, the fewest and the shortest where they differ and may be cut."""
    counts, lengths = [len(one.lengths) for one in each], [length for one in each for length in one.lengths]
    num_histories, num_steps, total = min(counts), min(lengths), sum(lengths)
    kept = len(each) * num_histories * num_steps
    if kept < total:
        found = f"{num_steps} to {max(lengths)} steps, {num_histories} to {max(counts)} a task"
        require(unequal == CUT, "histories", found, "one length, and as many of each task", "--unequal cut cuts them")
        said.append(f"cut to {num_histories} histories of {num_steps} steps a task, {total - kept} of {total} left out")
    require(num_steps >= 2, "histories", f"of {num_steps} step", "at least 2 steps")
    return Form(tasks, num_histories, num_steps)


def episodes_of(form: Form, each: list[Survey]) -> Episodes:
    """How long episodes are.

    Raises:
      InputError: a history in which none ends, beside others.
    """
    ends = [row[row < form.num_steps] for one in each for row in one.ends[: form.num_histories]]
    none = [row.size == 0 for row in ends]
    if any(none) and not all(none):
        task, history = divmod(none.index(True), form.num_histories)
        place = f"{form.tasks.where(task)}: episodes of history {history}"
        require(False, place, "none that ends", "one in each history, or none in any", "longer histories have one")
    longest, shortest = 1, form.num_steps
    for row in ends:
        steps = np.diff(row, prepend=-1)
        rest = form.num_steps - 1 - int(row[-1] if row.size else -1)
        longest, shortest = max(longest, int(steps.max(initial=rest))), min(shortest, int(steps.min(initial=shortest)))
    return Episodes(longest, shortest, not all(none))
