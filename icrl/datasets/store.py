"""Contexts on disk: immutable shards by task-id range, written once, read by memory map, verified by digest.

A shard is a folder ``tasks-LOW-HIGH`` with one ``.npy`` file per field and the publisher's manifest. An axis along
which a field never varies within a shard (the constant observation of a bandit, flags that are never set) is stored
with length 1 and broadcast on reading. Because a context is a function of (seed, task id), the bytes of a shard do not
depend on the order or the number of processes that write shards, and an interrupted collection just goes on.
"""

import json
import re
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from icrl.artifacts import (
    discard_folder,
    make_folder,
    publish_json,
    publishing_folder,
    read_json,
    sweep_temporaries,
    verify_folder,
)
from icrl.datasets.contexts import ContextGenerator, Contexts
from icrl.errors import DamagedError, InputError, require, require_int
from icrl.progress import Progress
from icrl.run_folder import RunLock
from icrl.types import History

SHARD_TASKS = 4096
CARD = "card.json"
FIELDS = (*History._fields, "query", "label")
_DTYPES = {
    "obs": jnp.float32,
    "action": jnp.int32,
    "reward": jnp.float32,
    "next_obs": jnp.float32,
    "terminated": jnp.bool_,
    "truncated": jnp.bool_,
    "query": jnp.float32,
    "label": jnp.int32,
}  # as the generator makes them


def store_contexts(
    folder: Path, generator: ContextGenerator, num_tasks: int, card: dict[str, Any], shard_tasks: int = SHARD_TASKS
) -> None:
    """Write the contexts of tasks 0 .. num_tasks - 1 under ``folder``, continuing what an earlier call left undone.

    Args:
      card: what made the data (environment, source, seed, ...), strict JSON; a folder with another card is refused.
    """
    num_tasks = require_int("num_tasks", num_tasks, 1, 2**31 - 1)
    shard_tasks = require_int("shard_tasks", shard_tasks, 1, 2**24)
    make_folder(folder)
    full_card = json.loads(json.dumps({**card, "shard_tasks": shard_tasks, "num_steps": generator.num_steps}))
    if (folder / CARD).exists():
        found = read_json(folder / CARD)
        differing = sorted(key for key in full_card.keys() | found.keys() if full_card.get(key) != found.get(key))
        require(not differing, "data", str(folder), f"a folder for the same data; {', '.join(differing)} differ")
    else:
        publish_json(folder / CARD, full_card)
    with RunLock(folder, "collect"), Progress("collecting", num_tasks, "tasks") as bar:
        sweep_temporaries(folder)
        for low in range(0, num_tasks, shard_tasks):
            high = min(low + shard_tasks, num_tasks)
            stored = [int(path.name[-10:]) for path in folder.glob(f"tasks-{low:010d}-*")]
            if max(stored, default=low) < high:
                for short in stored:  # the last shard of a smaller set, to be written again with more tasks
                    discard_folder(folder / _shard_name(low, short))
                contexts = generator.fetch(np.arange(low, high))
                _write_shard(folder / _shard_name(low, high), contexts, {"low": low, "high": high})
            bar.advance(high - low)


def _shard_name(low: int, high: int) -> str:
    return f"tasks-{low:010d}-{high:010d}"


def _write_shard(final: Path, contexts: Contexts, meta: dict[str, Any]) -> None:
    arrays = {**contexts.history._asdict(), "query": contexts.query, "label": contexts.label}
    with publishing_folder(final, meta) as folder:
        for name, array in arrays.items():
            compact = _compact(np.asarray(array), axes=2 if name in History._fields else 1)
            np.save(folder / f"{name}.npy", compact, allow_pickle=False)


def _compact(array: np.ndarray, axes: int) -> np.ndarray:
    """The smallest form that broadcasts and casts back: leading axes of length 1 if constant, small integers."""
    for axis in range(axes):
        first = array.take([0], axis)
        if array.shape[axis] > 1 and np.array_equal(np.broadcast_to(first, array.shape), array):
            array = first
    if np.issubdtype(array.dtype, np.integer):
        array = array.astype(np.min_scalar_type(int(array.max(initial=0))))
    return np.ascontiguousarray(array)


class StoredContexts:
    """A stored set of contexts, larger than memory if it must be; ``fetch`` reads just the rows it is asked for."""

    def __init__(self, folder: Path | str, verify: bool = True):
        """Open ``folder``; with ``verify`` every shard's digests are checked first.

        Raises:
          InputError: no stored contexts there. DamagedError: a shard is damaged or missing.
        """
        self.folder = Path(folder)
        is_store = (self.folder / CARD).is_file()
        require(is_store, "data", str(folder), "a folder of stored contexts", f"it has no {CARD}")
        self.card = read_json(self.folder / CARD)
        names = sorted(path.name for path in self.folder.glob("tasks-*-*"))
        ranges = [re.fullmatch(r"tasks-(\d{10})-(\d{10})", name) for name in names]
        self._lows = [int(found[1]) for found in ranges if found]
        highs = [int(found[2]) for found in ranges if found]
        if self._lows != [0, *highs[:-1]] or not highs:
            raise DamagedError(f"{folder}: shards are missing, found {', '.join(names) or 'none'}")
        self.num_tasks = highs[-1]
        for name in names if verify else ():
            verify_folder(self.folder / name)
        self._shards = [{field: self._open(name, field) for field in FIELDS} for name in names]

    def _open(self, name: str, field: str) -> np.ndarray:
        path = self.folder / name / f"{field}.npy"
        try:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DamagedError(f"{path}: {error}") from error

    def fetch(self, ids: np.ndarray) -> Contexts:
        """The contexts of task ids [B], as the generator would make them."""
        ids = np.asarray(ids, np.int64)
        if ids.size == 0 or ids.min() < 0 or ids.max() >= self.num_tasks:
            raise InputError(
                f"task ids: got {ids.min(initial=0)}..{ids.max(initial=0)}, allowed: 0..{self.num_tasks - 1}"
            )
        shard = np.searchsorted(self._lows, ids, side="right") - 1
        rows = [self._row(self._shards[s], int(i - self._lows[s])) for s, i in zip(shard, ids, strict=True)]
        fields = {name: jnp.asarray(np.stack([row[name] for row in rows]), _DTYPES[name]) for name in FIELDS}
        query, label = fields.pop("query"), fields.pop("label")
        return Contexts(History(**fields), query, label)

    def _row(self, shard: dict[str, np.ndarray], row: int) -> dict[str, np.ndarray]:
        """One context: constant axes at their full length again."""
        found = {name: array[row if array.shape[0] > 1 else 0] for name, array in shard.items()}
        for name in History._fields:
            found[name] = np.broadcast_to(found[name], (self.card["num_steps"], *found[name].shape[1:]))
        return found
