"""Windows of learning histories: what a sequence model is trained on, cut after filtering, never before."""

import dataclasses
import functools
from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from icrl.core.errors import require, require_int
from icrl.core.types import Array, History
from icrl.datasets._episodes import Episodes, finished_episodes

_DTYPES = History(jnp.float32, jnp.int32, jnp.float32, jnp.float32, jnp.bool_, jnp.bool_)


class WindowSource(Protocol):
    """N histories of T transitions from which windows are cut."""

    @property
    def shape(self) -> tuple[int, int]:
        """(N, T)."""

    @property
    def episodes(self) -> Episodes:
        """The finished episodes."""

    def cut(self, rows: np.ndarray, starts: np.ndarray, length: int) -> History:
        """Windows [B, length, ...] in any dtype from rows [B] and first steps [B] int64."""


@dataclasses.dataclass(frozen=True, eq=False)
class DeviceHistories:
    """Histories [N, T, ...] that live on the device, in their compact dtypes, and are cut there."""

    columns: History

    @property
    def shape(self) -> tuple[int, int]:
        """(N, T)."""
        num_rows, num_steps = self.columns.reward.shape
        return num_rows, num_steps

    @functools.cached_property
    def episodes(self) -> Episodes:
        """The finished episodes."""
        ends = (self.columns.terminated != 0) | (self.columns.truncated != 0)
        return finished_episodes(np.asarray(self.columns.reward), np.asarray(ends))

    def cut(self, rows: np.ndarray, starts: np.ndarray, length: int) -> History:
        """Windows [B, length, ...] from rows [B] and first steps [B]."""
        return _cut(self.columns, rows.astype(np.int32), starts.astype(np.int32), length)


@dataclasses.dataclass(frozen=True, eq=False)
class Windows:
    """Batches of C consecutive transitions; a pure function of the step, so that a resumed run sees the same.

    ``histories`` are cut where they lie, on the device or on disk, and give the same batches; ``index`` [M] are the
    rows a filter chose, each as likely as it occurs there, and ``first`` [M] the step from which on it is used (None:
    all of it). Windows start at multiples of ``stride`` transitions behind that (the length of an episode, where all
    have the same: they then begin as contexts do that move by whole episodes).

    With ``task`` [N], the task of each row, a batch is B / 2 pairs of windows side by side, each of another task as
    long as there are enough; tasks are then alike likely, and the chosen rows within one.
    """

    histories: WindowSource
    index: np.ndarray
    window: int  # C
    batch_size: int
    seed: tuple[int, ...]
    stride: int = 1
    first: np.ndarray | None = None
    task: np.ndarray | None = None

    def __post_init__(self) -> None:
        rows, steps = self.histories.shape
        require_int("window", self.window, 1, 2**20)
        require(self.window <= steps, "window", self.window, f"at most the {steps} transitions of a history")
        require_int("batch_size", self.batch_size, 1, 2**20)
        require_int("stride", self.stride, 1, steps)
        inside = self.index.size > 0 and self.index.min() >= 0 and self.index.max() < rows
        require(bool(inside), "index", f"{self.index.size} rows", f"at least one row of 0..{rows - 1}")
        if self.first is not None:
            latest = int(self.first.max(initial=0))
            fits = self.first.shape == self.index.shape and self.first.min() >= 0 and latest + self.window <= steps
            require(bool(fits), "first", latest, f"steps 0..{steps - self.window}, one for each row, before a window")
        if self.task is not None:
            require(self.task.shape == (rows,), "task.shape", self.task.shape, f"({rows},), one for each history")
            require(self.batch_size % 2 == 0, "batch_size", self.batch_size, "an even number, in pairs of one task")

    def __call__(self, step: int) -> History:
        """The batch of ``step``: History [B, C, ...] float32, int32 and bool, on the device."""
        return windows_at(self.histories, *self.places(step), self.window)

    def places(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows [B] and first steps [B] int64 of the windows in the batch of ``step``."""
        draw = np.random.default_rng([*self.seed, step])
        chosen = self._chosen(draw)
        first = 0 if self.first is None else self.first[chosen]
        last = (self.histories.shape[1] - self.window - first) // self.stride
        return self.index[chosen], first + self.stride * draw.integers(last + 1, size=self.batch_size)

    def _chosen(self, draw: np.random.Generator) -> np.ndarray:
        """Places [B] in ``index``, one for each window."""
        return draw.integers(self.index.size, size=self.batch_size) if self.task is None else self._pairs(draw)

    def _pairs(self, draw: np.random.Generator) -> np.ndarray:
        """Places [B] in ``index``, 2i and 2i + 1 of one task."""
        places, bounds = self._by_task
        count, pairs = len(bounds) - 1, self.batch_size // 2
        tasks = draw.permutation(count)[:pairs] if pairs <= count else draw.integers(count, size=pairs)
        return places[draw.integers(bounds[tasks, None], bounds[tasks + 1, None], size=(pairs, 2))].reshape(-1)

    @functools.cached_property
    def _by_task(self) -> tuple[np.ndarray, np.ndarray]:
        """Places [M] in ``index``, task after task, and where each task begins and the last ends."""
        assert self.task is not None
        tasks = self.task[self.index]
        return np.argsort(tasks, kind="stable"), np.append(0, np.cumsum(np.unique(tasks, return_counts=True)[1]))


def windows_at(histories: WindowSource, rows: np.ndarray, starts: np.ndarray, length: int) -> History:
    """The windows [B, length, ...] float32, int32 and bool at rows [B] and first steps [B], on the device."""
    return _cast(histories.cut(rows, starts, length))


@partial(jax.jit, static_argnames=("length",))
def _cut(histories: History, rows: Array, starts: Array, length: int) -> History:
    """Histories [B, length, ...] from rows [B] and first steps [B]."""

    def one(row: Array, start: Array) -> Any:
        def field(all_rows: Array) -> Array:
            at = (row, start, *(jnp.int32(0) for _ in all_rows.shape[2:]))
            return jax.lax.dynamic_slice(all_rows, at, (1, length, *all_rows.shape[2:]))[0]

        return jax.tree.map(field, histories)

    return jax.vmap(one)(rows, starts)


@jax.jit
def _cast(windows: History) -> History:
    dtypes = _DTYPES if windows.action.ndim == windows.reward.ndim else _DTYPES._replace(action=jnp.float32)
    return jax.tree.map(lambda field, dtype: field.astype(dtype), windows, dtypes)
