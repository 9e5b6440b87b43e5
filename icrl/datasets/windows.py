"""Windows of learning histories: what a sequence model is trained on, cut after filtering, never before."""

import dataclasses
from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from icrl.errors import require, require_int
from icrl.types import Array, History

_DTYPES = History(jnp.float32, jnp.int32, jnp.float32, jnp.float32, jnp.bool_, jnp.bool_)


class WindowSource(Protocol):
    """N histories of T transitions from which windows are cut."""

    @property
    def shape(self) -> tuple[int, int]:
        """(N, T)."""

    def cut(self, rows: np.ndarray, starts: np.ndarray, length: int) -> History:
        """Windows [B, length, ...] in any dtype from rows [B] and first steps [B] int64."""


@dataclasses.dataclass(frozen=True, eq=False)
class DeviceHistories:
    """Histories [N, T, ...] that live on the device, in their compact dtypes, and are cut there."""

    columns: History

    @property
    def shape(self) -> tuple[int, int]:
        """(N, T)."""
        num_rows, num_steps = self.columns.action.shape
        return num_rows, num_steps

    def cut(self, rows: np.ndarray, starts: np.ndarray, length: int) -> History:
        """Windows [B, length, ...] from rows [B] and first steps [B]."""
        return _cut(self.columns, rows.astype(np.int32), starts.astype(np.int32), length)


@dataclasses.dataclass(frozen=True, eq=False)
class Windows:
    """Batches of C consecutive transitions; a pure function of the step, so that a resumed run sees the same.

    ``histories`` are cut where they lie, on the device or on disk, and give the same batches; ``index`` [M] are the
    rows a filter chose, each as likely as it occurs there, and ``first`` [M] the step from which on it is used (None:
    all of it). Windows start at multiples of ``stride`` transitions behind that (the length of an episode: they then
    begin as contexts do that move by whole episodes).
    """

    histories: WindowSource
    index: np.ndarray
    window: int  # C
    batch_size: int
    seed: tuple[int, ...]
    stride: int = 1
    first: np.ndarray | None = None

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

    def __call__(self, step: int) -> History:
        """The batch of ``step``: History [B, C, ...] float32, int32 and bool, on the device."""
        return _cast(self.histories.cut(*self.places(step), self.window))

    def places(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows [B] and first steps [B] int64 of the windows in the batch of ``step``."""
        draw = np.random.default_rng([*self.seed, step])
        chosen = draw.integers(self.index.size, size=self.batch_size)
        first = 0 if self.first is None else self.first[chosen]
        last = (self.histories.shape[1] - self.window - first) // self.stride
        return self.index[chosen], first + self.stride * draw.integers(last + 1, size=self.batch_size)


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
    return jax.tree.map(lambda field, dtype: field.astype(dtype), windows, _DTYPES)
