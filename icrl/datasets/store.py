"""Records on disk: immutable shards by task-id range, written once, read by memory map, verified by digest.

A record is what one task left behind: a context, or all its learning histories; every field of it has a fixed shape.
A shard is a folder ``tasks-LOW-HIGH`` with one ``.npy`` file per field and the publisher's manifest. An axis along
which a field never varies within a shard (the constant observation of a bandit, flags that are never set) is stored
with length 1 and broadcast on reading; whole numbers are stored in as few bytes as they need. Because a record is a
function of (seed, task id), the bytes of a shard do not depend on the order or the number of processes that write
shards, and an interrupted collection just goes on.
"""

import functools
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from icrl.core.errors import DamagedError, InputError, require, require_int
from icrl.core.progress import Progress
from icrl.storage.publish import (
    MANIFEST,
    discard_folder,
    encode_json,
    make_folder,
    publish_json,
    publishing_folder,
    read_json,
    read_manifest,
    sweep_temporaries,
    verify_folder,
)
from icrl.storage.run_folder import RunLock

SHARD_TASKS = 4096
OPEN_SHARDS = 32  # mapped at a time: a large set has more files than a process may hold open
SMALL = 1024  # bytes of an array that stays in memory: what is constant in a shard
CARD = "card.json"
FORMAT = 1  # of the card and the shards; a higher one is refused


def store_records(
    folder: Path,
    fetch: Callable[[np.ndarray], Mapping[str, Any]],
    num_tasks: int,
    card: dict[str, Any],
    shard_tasks: int = SHARD_TASKS,
) -> None:
    """Write the records of tasks 0 .. num_tasks - 1 under ``folder``, continuing what an earlier call left undone.

    Args:
      fetch: task ids [n] to the fields of their records, [n, ...] each; the same ids give the same bytes.
      card: what made the data (environment, source, seed, ...), strict JSON; a folder with another card is refused.
    """
    num_tasks = require_int("num_tasks", num_tasks, 1, 2**31 - 1)
    shard_tasks = require_int("shard_tasks", shard_tasks, 1, 2**24)
    make_folder(folder)
    full_card = json.loads(json.dumps({**card, "shard_tasks": shard_tasks, "format": FORMAT}))
    if (folder / CARD).exists():
        found = _read_card(folder)
        differing = sorted(key for key in full_card.keys() | found.keys() if full_card.get(key) != found.get(key))
        require(not differing, "data", str(folder), f"a folder for the same data; {', '.join(differing)} differ")
    else:
        publish_json(folder / CARD, {**full_card, "sha256": _card_digest(full_card)})
    with RunLock(folder, "collect"), Progress("collecting", num_tasks, "tasks") as bar:
        sweep_temporaries(folder)
        for low in range(0, num_tasks, shard_tasks):
            high = min(low + shard_tasks, num_tasks)
            stored = [int(path.name[-10:]) for path in folder.glob(f"tasks-{low:010d}-*")]
            if max(stored, default=low) < high:
                for short in stored:  # the last shard of a smaller set, to be written again with more tasks
                    discard_folder(folder / _shard_name(low, short))
                _write_shard(folder, full_card, low, fetch(np.arange(low, high)))
            bar.advance(high - low)


def _read_card(folder: Path) -> dict[str, Any]:
    """The card in ``folder`` without its digest, which must be right."""
    where, card = folder / CARD, read_json(folder / CARD)
    if not isinstance(card, dict):
        raise DamagedError(f"{where}: expected a dictionary, found {type(card).__name__}")
    require(card.get("format") == FORMAT, f"{where}: format", card.get("format"), f"{FORMAT}, or a newer icrl")
    stated = card.pop("sha256", None)
    if stated != _card_digest(card):
        raise DamagedError(f"{where}: sha256: expected {stated!r}, found {_card_digest(card)!r}")
    return card


def _card_digest(card: dict[str, Any]) -> str:
    return hashlib.sha256(encode_json(card)).hexdigest()


def _shard_name(low: int, high: int) -> str:
    return f"tasks-{low:010d}-{high:010d}"


def _write_shard(folder: Path, card: dict[str, Any], low: int, records: Mapping[str, Any]) -> None:
    arrays = {name: np.asarray(field) for name, field in records.items()}
    high = low + len(next(iter(arrays.values())))
    fields = {name: {"dtype": field.dtype.name, "shape": list(field.shape[1:])} for name, field in arrays.items()}
    content = f"{_content(low, arrays):064x}"
    meta = {"card": _card_digest(card), "low": low, "high": high, "fields": fields, "content": content}
    with publishing_folder(folder / _shard_name(low, high), meta) as shard:
        for name, field in arrays.items():
            np.save(shard / f"{name}.npy", _compact(field), allow_pickle=False)


def _content(low: int, arrays: Mapping[str, np.ndarray]) -> int:
    """A digest of records that adds up: its sum over all shards is the same however the records were cut."""
    total = 0
    for offset in range(len(next(iter(arrays.values())))):
        record = hashlib.sha256(str(low + offset).encode())
        for name in sorted(arrays):
            record.update(name.encode() + arrays[name][offset].tobytes())
        total += int.from_bytes(record.digest(), "big")
    return total % 2**256


def _compact(array: np.ndarray) -> np.ndarray:
    """The smallest form that broadcasts and casts back: axes of length 1 if constant, small whole numbers."""
    for axis in range(array.ndim):
        first = array.take([0], axis)
        varies = array.shape[axis] > 1 and not np.array_equal(first, array.take([1], axis))
        if not varies and np.array_equal(np.broadcast_to(first, array.shape), array):
            array = first
    if array.dtype.kind == "f" and not _is_small_whole(array):
        return np.ascontiguousarray(array)
    if array.dtype.kind in "fiu":
        array = array.astype(np.min_scalar_type(int(array.max(initial=0))))
    return np.ascontiguousarray(array)


def _is_small_whole(array: np.ndarray) -> bool:
    """Whether floats are all 0 .. 65535 without a fraction (or a minus zero), so that integers hold them exactly."""
    if array.size == 0 or not (array.min() >= 0 and array.max() <= 65535):
        return False
    return bool(np.array_equal(np.rint(array), array)) and not np.signbit(array).any()


class _Shard(NamedTuple):
    """A published shard: the records of tasks low .. high - 1."""

    folder: Path
    low: int
    high: int
    meta: dict[str, Any]  # as it was published with


class StoredRecords:
    """A stored set of records, larger than memory if it must be; only what is asked for is read."""

    def __init__(self, folder: Path | str, verify: bool = True):
        """Open ``folder``; with ``verify`` every shard's digests are checked first.

        Raises:
          InputError: no stored records there, or of a newer format. DamagedError: a shard is damaged, missing, half
            written, in another one's place or of another set.
        """
        self.folder = Path(folder)
        is_store = (self.folder / CARD).is_file()
        require(is_store, "data", str(folder), "a folder of collected data", f"it has no {CARD}")
        self.card = _read_card(self.folder)
        self._shards = _shards(self.folder, self.card, verify)
        self._lows = [shard.low for shard in self._shards]
        self.num_tasks = self._shards[-1].high
        content = sum(int(shard.meta["content"], 16) for shard in self._shards) % 2**256
        about = {name: value for name, value in self.card.items() if name != "shard_tasks"}
        self.digest = hashlib.sha256(encode_json([about, f"{content:064x}"])).hexdigest()  # of what, not of how stored
        self.fields: dict[str, dict[str, Any]] = self._shards[0].meta["fields"]
        for shard in self._shards:
            if shard.meta["fields"] != self.fields:
                raise DamagedError(f"{shard.folder}: its fields differ from those of {self._shards[0].folder.name}")
        self._known: dict[Path, np.ndarray | dict[str, Any]] = {}
        self._opened = functools.lru_cache(OPEN_SHARDS)(self._open)

    def fetch(self, ids: np.ndarray) -> dict[str, np.ndarray]:
        """The records of task ids [n]: fields [n, ...] as they were before they were stored."""
        return self.read(np.asarray(ids, np.int64))

    def read(self, tasks: np.ndarray, *inner: np.ndarray) -> dict[str, np.ndarray]:
        """Parts of records: field[tasks, *inner] of every field, in the dtype it had before it was stored.

        Args:
          tasks: task ids [n] or [n, 1] int64.
          inner: integers that index the axes behind the task's and broadcast with ``tasks``, [n, ...] each.
        """
        if tasks.size == 0 or tasks.min() < 0 or tasks.max() >= self.num_tasks:
            found = f"{tasks.min(initial=0)}..{tasks.max(initial=0)}"
            raise InputError(f"task ids: got {found}, allowed: 0..{self.num_tasks - 1}")
        leading = np.broadcast_shapes(tasks.shape, *(index.shape for index in inner))
        fields = {
            name: np.empty((*leading, *form["shape"][len(inner) :]), form["dtype"])
            for name, form in self.fields.items()
        }
        shard = np.searchsorted(self._lows, tasks, side="right").reshape(len(tasks)) - 1
        for number in np.unique(shard):  # each is opened once, however many windows lie in it
            here = np.flatnonzero(shard == number)
            at = (tasks[here] - self._lows[number], *(index[here] for index in inner))
            for name, field in self._opened(int(number)).items():
                fields[name][here] = field[at]
        return fields

    def shards(self) -> Iterator[dict[str, np.ndarray]]:
        """Shard after shard, its fields [tasks of it, ...] memory-mapped in compact dtypes, constant axes broadcast."""
        for number in range(len(self._shards)):
            yield self._open(number)

    def _open(self, number: int) -> dict[str, np.ndarray]:
        shard, fields = self._shards[number], {}
        for name, form in self.fields.items():
            path = shard.folder / f"{name}.npy"
            try:
                fields[name] = np.broadcast_to(self._stored(path), (shard.high - shard.low, *form["shape"]))
            except (OSError, ValueError) as error:
                raise DamagedError(f"{path}: {error}") from error
        return fields

    def _stored(self, path: Path) -> np.ndarray:
        """The array in ``path``, memory-mapped; of a known one only the asked-for pages are read, not its header."""
        if path not in self._known:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            form = {"dtype": array.dtype, "offset": array.offset, "shape": array.shape}
            self._known[path] = form if array.nbytes > SMALL else np.array(array)
        known = self._known[path]
        return known if isinstance(known, np.ndarray) else np.memmap(path, mode="r", **known)


def _shards(folder: Path, card: dict[str, Any], verify: bool) -> list[_Shard]:
    """All shards in ``folder`` in the order of their tasks, none missing, each of this set and in its own place."""
    found = []
    for path in sorted(folder.glob("tasks-*")):
        numbers = re.fullmatch(r"tasks-(\d{10})-(\d{10})", path.name)
        if numbers is None:
            raise DamagedError(
                f"{path}: expected shards named {_shard_name(0, card['shard_tasks'])}, found another name"
            )
        meta = verify_folder(path) if verify else read_manifest(path / MANIFEST)["meta"]
        shard = _Shard(path, int(numbers[1]), int(numbers[2]), meta)
        expected = {"low": shard.low, "high": shard.high, "card": _card_digest(card)}
        for name, value in expected.items():
            if meta.get(name, value) != value:  # the earliest shards do not name their card
                raise DamagedError(f"{path}: {name}: expected {value!r}, found {meta[name]!r}: a shard from elsewhere")
        found.append(shard)
    if not found or [shard.low for shard in found] != [0, *(shard.high for shard in found[:-1])]:
        names = ", ".join(shard.folder.name for shard in found)
        raise DamagedError(f"{folder}: shards are missing, found {names or 'none'}")
    return found
