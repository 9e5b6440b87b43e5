"""Stored learning histories as models are trained on them: several sets as one, every k-th episode, on device or disk.

Letters: N histories of T transitions, B windows.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from icrl.core.types import History
from icrl.datasets._episodes import Episodes, finished_episodes
from icrl.datasets.histories import StoredHistories
from icrl.datasets.windows import DeviceHistories
from icrl.filters._table import HistoryTable


def kept_steps(num_steps: int, episode: int, keep_every: int) -> np.ndarray:
    """The steps [T] of a history that are left when of every ``keep_every`` episodes the first is kept.

    With 1 all are; otherwise an incomplete last episode is dropped.
    """
    steps = np.arange(num_steps)
    in_episode = steps // episode
    return steps[(keep_every == 1) | (in_episode % keep_every == 0) & (in_episode < num_steps // episode)]


@dataclasses.dataclass(frozen=True, eq=False)
class PooledHistories:
    """Histories [N, T, ...] of stored sets as one set that stays on disk; its windows are read by memory map.

    Of each (set, count) in ``parts`` it has the first ``count`` histories of every task: task after task of the first
    part, then those of the second. Of every ``keep_every`` episodes the first is kept.
    """

    parts: tuple[tuple[StoredHistories, int], ...]
    keep_every: int = 1

    @functools.cached_property
    def steps(self) -> np.ndarray:
        """The steps of a stored history that are kept, [T]."""
        stored = self.parts[0][0]
        return kept_steps(stored.num_steps, stored.card["episode_steps"], self.keep_every)

    @functools.cached_property
    def shape(self) -> tuple[int, int]:
        """(N, T)."""
        return sum(stored.num_tasks * count for stored, count in self.parts), len(self.steps)

    @property
    def nbytes(self) -> int:
        """Bytes that ``on_device`` takes."""
        return sum(math.prod((*self.shape, *form.inner)) * form.dtype.itemsize for form in self._forms.values())

    def table(self) -> HistoryTable:
        """What filters look at, of all N histories and all their episodes, kept or not."""
        tables = [stored.table(count) for stored, count in self.parts]
        return tables[0] if len(tables) == 1 else HistoryTable(*map(np.concatenate, zip(*tables, strict=True)))

    @functools.cached_property
    def episodes(self) -> Episodes:
        """The finished episodes of what is kept, read shard by shard."""
        found, low = [], 0
        for shard in self._shards():
            reward, *flags = (shard[name][:, :, self.steps] for name in ("reward", "terminated", "truncated"))
            rows, num_steps = math.prod(reward.shape[:2]), reward.shape[2]
            ends = (flags[0] != 0) | (flags[1] != 0)
            own = finished_episodes(reward.reshape(rows, num_steps), ends.reshape(rows, num_steps))
            found.append(own._replace(row=own.row + low))
            low += rows
        return Episodes(*map(np.concatenate, zip(*found, strict=True)))

    def on_device(self) -> DeviceHistories:
        """The same histories on the device, in compact dtypes."""
        columns = {name: np.empty((*self.shape, *form.inner), form.dtype) for name, form in self._forms.items()}
        low = 0
        for shard in self._shards():
            high = low + math.prod(shard["reward"].shape[:2])
            for name, column in columns.items():
                column[low:high] = shard[name][:, :, self.steps].reshape(high - low, *column.shape[1:])
            low = high
        return DeviceHistories(History(**{name: jnp.asarray(columns.pop(name)) for name in History._fields}))

    def cut(self, rows: np.ndarray, starts: np.ndarray, length: int) -> History:
        """Windows [B, length, ...] from rows [B] and first steps [B], read from disk; no other bytes are touched."""
        steps = self.steps[starts[:, None] + np.arange(length)]
        found, order, low = [], [], 0
        for stored, count in self.parts:
            high = low + stored.num_tasks * count
            here = np.flatnonzero((rows >= low) & (rows < high))
            if here.size:
                task, place = np.divmod(rows[here, None] - low, count)
                found.append(stored.read(task, place, steps[here]))
                order.append(here)
            low = high
        back = np.argsort(np.concatenate(order))
        fields = {name: np.concatenate([part[name] for part in found])[back] for name in History._fields}
        return History(**{name: jnp.asarray(field) for name, field in fields.items()})

    @functools.cached_property
    def _forms(self) -> dict[str, "_Form"]:
        """The dtype that holds each field of all shards, and its shape at one step."""
        forms: dict[str, _Form] = {}
        for shard in self._shards():
            for name, field in shard.items():
                dtype = np.promote_types(field.dtype, forms[name].dtype) if name in forms else field.dtype
                forms[name] = _Form(dtype, field.shape[3:])
        return forms

    def _shards(self) -> Iterator[dict[str, np.ndarray]]:
        """Shard after shard, its histories [tasks, count, all steps, ...], memory-mapped in compact dtypes."""
        for stored, count in self.parts:
            for shard in stored.shards():
                yield {name: shard[name][:, :count] for name in History._fields}


class _Form(NamedTuple):
    dtype: np.dtype
    inner: tuple[int, ...]
