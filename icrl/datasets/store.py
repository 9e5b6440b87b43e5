"""Records on disk: immutable shards by task-id range, written once, read by memory map, verified by digest.

A record is what one task left behind: a context, or all its learning histories; every field of it has a fixed shape.
A shard is a folder ``tasks-LOW-HIGH`` with one ``.npy`` file per field and the publisher's manifest. An axis along
which a field never varies within a shard (the constant observation of a bandit, flags that are never set) is stored
with length 1 and broadcast on reading; whole numbers are stored in as few bytes as they need. Because a record is a
function of (seed, task id), the bytes of a shard do not depend on the order or the number of processes that write
shards, and an interrupted collection just goes on.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from icrl.artifacts import (
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
from icrl.errors import DamagedError, InputError, require, require_int
from icrl.progress import Progress
from icrl.run_folder import RunLock

SHARD_TASKS = 4096
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
                _write_shard(folder, low, high, fetch(np.arange(low, high)))
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


def _write_shard(folder: Path, low: int, high: int, records: Mapping[str, Any]) -> None:
    arrays = {name: np.asarray(field) for name, field in records.items()}
    fields = {name: {"dtype": field.dtype.name, "shape": list(field.shape[1:])} for name, field in arrays.items()}
    meta = {"low": low, "high": high, "fields": fields, "content": f"{_content(low, arrays):064x}"}
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


class StoredRecords:
    """A stored set of records, larger than memory if it must be; ``fetch`` reads just the rows it is asked for."""

    def __init__(self, folder: Path | str, verify: bool = True):
        """Open ``folder``; with ``verify`` every shard's digests are checked first.

        Raises:
          InputError: no stored records there, or of a newer format. DamagedError: a shard is damaged or missing.
        """
        self.folder = Path(folder)
        is_store = (self.folder / CARD).is_file()
        require(is_store, "data", str(folder), "a folder of collected data", f"it has no {CARD}")
        self.card = _read_card(self.folder)
        names = sorted(path.name for path in self.folder.glob("tasks-*-*"))
        ranges = [re.fullmatch(r"tasks-(\d{10})-(\d{10})", name) for name in names]
        self._lows = [int(found[1]) for found in ranges if found]
        highs = [int(found[2]) for found in ranges if found]
        if self._lows != [0, *highs[:-1]] or not highs:
            raise DamagedError(f"{folder}: shards are missing, found {', '.join(names) or 'none'}")
        self.num_tasks = highs[-1]
        self._counts = [high - low for low, high in zip(self._lows, highs, strict=True)]
        for name in names if verify else ():
            verify_folder(self.folder / name)
        manifests = [read_manifest(self.folder / name / MANIFEST) for name in names]
        content = sum(int(manifest["meta"]["content"], 16) for manifest in manifests) % 2**256
        about = {name: value for name, value in self.card.items() if name != "shard_tasks"}
        self.digest = hashlib.sha256(encode_json([about, f"{content:064x}"])).hexdigest()  # of what, not of how stored
        self.fields: dict[str, dict[str, Any]] = manifests[0]["meta"]["fields"]
        for name, manifest in zip(names, manifests, strict=True):
            if manifest["meta"]["fields"] != self.fields:
                raise DamagedError(f"{self.folder / name}: its fields differ from those of {names[0]}")
        self._shards = [{field: self._open(name, field) for field in self.fields} for name in names]

    def _open(self, name: str, field: str) -> np.ndarray:
        path = self.folder / name / f"{field}.npy"
        try:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DamagedError(f"{path}: {error}") from error

    def fetch(self, ids: np.ndarray) -> dict[str, np.ndarray]:
        """The records of task ids [n]: fields [n, ...] as they were before they were stored."""
        ids = np.asarray(ids, np.int64)
        if ids.size == 0 or ids.min() < 0 or ids.max() >= self.num_tasks:
            raise InputError(
                f"task ids: got {ids.min(initial=0)}..{ids.max(initial=0)}, allowed: 0..{self.num_tasks - 1}"
            )
        shard = np.searchsorted(self._lows, ids, side="right") - 1
        rows = [(self._shards[s], int(i - self._lows[s])) for s, i in zip(shard, ids, strict=True)]
        return {
            name: np.stack([self._row(shard[name], row, form["shape"]) for shard, row in rows]).astype(form["dtype"])
            for name, form in self.fields.items()
        }

    def column(self, name: str) -> np.ndarray:
        """One field of all records, [num_tasks, ...], in the compact dtype; constant axes at their full length."""
        shape = self.fields[name]["shape"]
        parts = [np.broadcast_to(s[name], (n, *shape)) for s, n in zip(self._shards, self._counts, strict=True)]
        return np.concatenate(parts)

    @staticmethod
    def _row(field: np.ndarray, row: int, shape: list[int]) -> np.ndarray:
        return np.broadcast_to(field[row if field.shape[0] > 1 else 0], shape)
