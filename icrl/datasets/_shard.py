"""One shard of a stored set: the records of a range of tasks, a folder with a file for each of their fields."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from icrl.core.errors import DamagedError, InputError, require
from icrl.datasets import _arrays
from icrl.storage.paths import show
from icrl.storage.publish import MANIFEST, publishing_folder, read_manifest, verify_folder
from icrl.storage.typed import conform

NAME = re.compile(r"tasks-(\d{10})-(\d{10})")
_FIELD = re.compile(r"[A-Za-z0-9_]{1,64}")
_META = {"low": int, "high": int, "fields": dict, "content": str}
_FORM = {"dtype": str, "shape": [int]}


def shard_name(low: int, high: int) -> str:
    """How the shard of tasks low .. high - 1 is called."""
    return f"tasks-{low:010d}-{high:010d}"


def write_shard(folder: Path, card_digest: str, low: int, high: int, records: Mapping[str, Any]) -> None:
    """Publish ``records``, the fields [high - low, ...] of tasks low .. high - 1, as a shard in ``folder``.

    Raises:
      InputError: a field that could not be read back as it is, or numbers that are not finite.
    """
    require(len(records) > 0, "records", "no field", "at least one field")
    arrays = {name: _checked(name, field, low, high) for name, field in records.items()}
    fields = {
        name: {"dtype": _arrays.spelled(each.dtype), "shape": list(each.shape[1:])} for name, each in arrays.items()
    }
    content = f"{_content(low, arrays):064x}"
    meta = {"card": card_digest, "low": low, "high": high, "fields": fields, "content": content}
    with publishing_folder(folder / shard_name(low, high), meta) as shard:
        for name, field in arrays.items():
            _arrays.save(shard / f"{name}.npy", _arrays.compact(field))


def _checked(name: str, field: Any, low: int, high: int) -> np.ndarray:
    require(_FIELD.fullmatch(name) is not None, "field", name, "a name of 1 to 64 ASCII letters, digits and _")
    try:
        array = np.asarray(field)
    except (TypeError, ValueError) as error:
        raise InputError(f"field {name}: not an array: {error}") from error
    rows = array.shape[:1]
    require(rows == (high - low,), f"field {name}: shape", array.shape, f"[{high - low}, ...], an entry for each task")
    numbers = f"one of the kinds {', '.join(_arrays.KINDS)} (numbers, times, text of fixed length)"
    require(_arrays.spelled(array.dtype) is not None, f"field {name}: dtype", str(array.dtype), numbers)
    if array.dtype.kind in "fc" and not np.isfinite(array).all():
        task, *place = (int(number) for number in np.argwhere(~np.isfinite(array))[0])
        where = f"{name}{place} of task {low + task}" if place else f"{name} of task {low + task}"
        raise InputError(f"{where}: got {array[(task, *place)]}, allowed: finite numbers")
    return array


def _content(low: int, arrays: Mapping[str, np.ndarray]) -> int:
    """A digest of records that adds up: its sum over all shards is the same however the records were cut."""
    total = 0
    for offset in range(len(next(iter(arrays.values())))):
        record = hashlib.sha256(str(low + offset).encode())
        for name in sorted(arrays):
            record.update(name.encode() + arrays[name][offset].tobytes())
        total += int.from_bytes(record.digest(), "big")
    return total % 2**256


class Shard(NamedTuple):
    """A published shard: the records of tasks low .. high - 1."""

    folder: Path
    low: int
    high: int
    meta: dict[str, Any]  # as it was published with

    def load(self, name: str) -> np.ndarray:
        """The field ``name`` in its compact form, which broadcasts to [tasks, ...]."""
        form = self.meta["fields"][name]
        dtype = _arrays.dtype_of(form["dtype"])
        if dtype is None:
            raise DamagedError(f"{show(self.folder)}: fields.{name}.dtype: found {show(repr(form['dtype'])[:60])}")
        return _arrays.load(self.folder / f"{name}.npy", dtype, (self.high - self.low, *form["shape"]))


def open_shard(path: Path, card_digest: str, verify: bool) -> Shard:
    """The shard in ``path``, every file of which is what it is declared to be; with ``verify`` every byte is checked.

    Raises:
      DamagedError: it is damaged, of another set, or in another one's place.
    """
    numbers = NAME.fullmatch(path.name)
    if numbers is None:
        raise DamagedError(f"{show(path)}: expected shards named {shard_name(0, 1)}, found another name")
    if path.is_symlink():
        raise DamagedError(f"{show(path)}: expected a folder, found a link")
    meta = verify_folder(path) if verify else read_manifest(path / MANIFEST)["meta"]
    shard = Shard(path, int(numbers[1]), int(numbers[2]), meta)
    conform(meta, _META, f"{show(path)}: meta")
    for name, value in {"low": shard.low, "high": shard.high, "card": card_digest}.items():
        if meta.get(name, value) != value:  # the earliest shards do not name their card
            raise DamagedError(
                f"{show(path)}: {name}: expected {value!r}, found {show(repr(meta[name]))}: a shard from elsewhere"
            )
    conform(meta["fields"], dict.fromkeys(meta["fields"], _FORM), f"{show(path)}: fields")
    named = shard.low < shard.high and bool(meta["fields"]) and all(map(_FIELD.fullmatch, meta["fields"]))
    if not named or not re.fullmatch(r"[0-9a-f]{64}", meta["content"]):
        raise DamagedError(f"{show(path)}: meta: expected tasks, named fields and a digest of their content")
    for name in meta["fields"]:
        shard.load(name)
    return shard
