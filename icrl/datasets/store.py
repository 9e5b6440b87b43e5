"""Records on disk: immutable shards by task-id range, written once, read by memory map, verified by digest.

A record is what one task left behind: a context, or all its learning histories; every field of it has a fixed shape.
A shard is a folder ``tasks-LOW-HIGH`` with one ``.npy`` file per field and the publisher's manifest. An axis along
which a field never varies within a shard (the constant observation of a bandit, flags that are never set) is stored
with length 1 and broadcast on reading; whole numbers are stored in as few bytes as they need. Because a record is a
function of (seed, task id), the bytes of a shard do not depend on the order or the number of processes that write
shards, and an interrupted collection just goes on. When a set grows, its last shard is written again with more tasks
before the short one goes: of the shards that begin with the same task the longest counts.
"""

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from icrl.core.errors import DamagedError, IcrlError, IncompleteError, InputError, require, require_int
from icrl.core.progress import Progress
from icrl.datasets._shard import NAME, Shard, open_shard, write_shard
from icrl.storage.documents import digest_of, read_document, write_document
from icrl.storage.lock import RunLock
from icrl.storage.paths import explained, show
from icrl.storage.publish import discard_folder, make_folder
from icrl.storage.typed import conform

SHARD_TASKS = 4096
OPEN_SHARDS = 32  # mapped at a time: a large set has more files than a process may hold open
CARD = "card.json"
COUNT = "num_tasks"  # on the card: how many tasks the set has, or is to have when its first collection is finished
FORMAT = 1  # of the card and the shards; a higher one is refused
_ATTEMPTS = 10  # to list the shards of a set that somebody else is making longer


def store_records(
    folder: Path,
    fetch: Callable[[np.ndarray], Mapping[str, Any]],
    num_tasks: int,
    card: dict[str, Any],
    shard_tasks: int = SHARD_TASKS,
    doing: str = "collecting",
) -> None:
    """Write the records of tasks 0 .. num_tasks - 1 under ``folder``, continuing what an earlier call left undone.

    A set that is there already grows: nothing of it is removed before what takes its place is on disk.

    Args:
      fetch: task ids [n] to the fields of their records, [n, ...] each; the same ids give the same bytes.
      card: what made the data (environment, source, seed, ...), strict JSON; a folder with another card is refused.
      shard_tasks: tasks in a shard, whose records are in memory at once.
      doing: what the progress bar says.

    Raises:
      InputError: another card, links, or records that could not be read back as they are. ResourceError: a full disk.
    """
    num_tasks = require_int("num_tasks", num_tasks, 1, 2**31 - 1)
    shard_tasks = require_int("shard_tasks", shard_tasks, 1, 2**24)
    make_folder(folder)
    about = json.loads(json.dumps({**card, "shard_tasks": shard_tasks, "format": FORMAT}))
    if (folder / CARD).exists():
        _require_same(folder, about)
    with RunLock(folder, "collect"), Progress(doing, num_tasks, "tasks") as bar:
        if (folder / CARD).exists():
            _require_same(folder, about)
        else:
            _publish_card(folder, about, num_tasks)
        for low in range(0, num_tasks, shard_tasks):
            high = min(low + shard_tasks, num_tasks)
            _store_shard(folder, _identity(about), fetch, low, high)
            bar.advance(high - low)
        stored = max(int(name[2]) for name in map(NAME.fullmatch, _longest(folder).values()) if name)
        if _read_card(folder).get(COUNT) != stored:
            _publish_card(folder, about, stored)


def _store_shard(folder: Path, identity: str, fetch: Callable[..., Mapping[str, Any]], low: int, high: int) -> None:
    """Publish the shard of tasks low .. high - 1 unless it or a longer one is there; then discard shorter ones."""
    stored = sorted(folder.glob(f"tasks-{low:010d}-*"), key=lambda path: path.name)
    if not stored or int(stored[-1].name[-10:]) < high:
        write_shard(folder, identity, low, high, fetch(np.arange(low, high)))
    else:
        stored.pop()
    for shorter in stored:  # the last shard of a smaller set, now part of a longer one
        discard_folder(shorter)


def _require_same(folder: Path, about: dict[str, Any]) -> None:
    found = {name: value for name, value in _read_card(folder).items() if name != COUNT}
    differing = sorted(key for key in about.keys() | found.keys() if about.get(key) != found.get(key))
    require(not differing, "data", str(folder), f"a folder for the same data; {', '.join(differing)} differ")


def _publish_card(folder: Path, about: dict[str, Any], num_tasks: int) -> None:
    write_document(folder / CARD, {**about, COUNT: num_tasks})


def _read_card(folder: Path) -> dict[str, Any]:
    """The card in ``folder`` without its digest, which must be right."""
    card = read_document(folder / CARD, {"shard_tasks": int}, ("format", FORMAT))
    conform(card, {COUNT: int} if COUNT in card else dict, show(folder / CARD))  # sets of before do not tell it
    return card


def _identity(card: dict[str, Any]) -> str:
    """The digest of what made a set, however many tasks it has: shards name it."""
    return digest_of({name: value for name, value in card.items() if name != COUNT})


class StoredRecords:
    """A stored set of records, larger than memory if it must be; only what is asked for is read."""

    def __init__(self, folder: Path | str, verify: bool = True):
        """Open ``folder``; with ``verify`` every shard's digests are checked first.

        Raises:
          InputError: no stored records there, or of a newer format. DamagedError: a shard is damaged, missing, half
            written, in another one's place or of another set. IncompleteError: the collection has not come to its end.
        """
        self.folder = Path(folder)
        with explained(folder):  # a name can be too long to look for
            is_store = (self.folder / CARD).is_file()
        require(is_store, "data", str(folder), "a folder of collected data", f"it has no {CARD}")
        self.card = _read_card(self.folder)
        self._shards = _shards(self.folder, self.card, verify)
        self._lows = [shard.low for shard in self._shards]
        self.num_tasks = self._shards[-1].high
        content = sum(int(shard.meta["content"], 16) for shard in self._shards) % 2**256
        about = {name: value for name, value in self.card.items() if name not in ("shard_tasks", COUNT)}
        self.digest = digest_of([about, f"{content:064x}"])  # of what, not of how stored
        self.fields: dict[str, dict[str, Any]] = self._shards[0].meta["fields"]
        for shard in self._shards:
            if shard.meta["fields"] != self.fields:
                raise DamagedError(f"{shard.folder}: its fields differ from those of {self._shards[0].folder.name}")
        self._known: dict[tuple[Path, str], np.ndarray | dict[str, Any]] = {}
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

    def stored_form(self, number: int, name: str) -> np.ndarray:
        """The field ``name`` of a shard as it is stored, 1 along axes where it never varies."""
        return self._stored(self._shards[number], name)

    def _open(self, number: int) -> dict[str, np.ndarray]:
        shard = self._shards[number]
        try:
            return self._fields_of(shard)
        except DamagedError:
            longer = _longest(self.folder).get(shard.low, shard.folder.name)
            if shard.folder.exists() or longer == shard.folder.name:
                raise
        now = open_shard(self.folder / longer, _identity(self.card), verify=True)  # the set has grown meanwhile
        return {name: field[: shard.high - shard.low] for name, field in self._fields_of(now).items()}

    def _fields_of(self, shard: Shard) -> dict[str, np.ndarray]:
        rows = shard.high - shard.low
        return {
            name: np.broadcast_to(self._stored(shard, name), (rows, *form["shape"]))
            for name, form in self.fields.items()
        }

    def _stored(self, shard: Shard, name: str) -> np.ndarray:
        """A field of a shard, memory-mapped; of a known one only the asked-for pages are read, not its header."""
        key = shard.folder, name
        if key not in self._known:
            array = shard.load(name)
            if not isinstance(array, np.memmap):
                self._known[key] = array
            else:
                self._known[key] = {"dtype": array.dtype, "offset": array.offset, "shape": array.shape}
        known = self._known[key]
        if isinstance(known, np.ndarray):
            return known
        try:
            return np.memmap(shard.folder / f"{name}.npy", mode="r", **known)
        except (OSError, ValueError) as error:
            raise DamagedError(f"{show(shard.folder / name)}.npy: {error}") from error


def _longest(folder: Path) -> dict[int, str]:
    """The first task of each shard to the name of the longest one that begins there."""
    names = sorted(path.name for path in folder.glob("tasks-*"))
    return {int(found[1]) if (found := NAME.fullmatch(name)) else -1: name for name in names}


def _shards(folder: Path, card: dict[str, Any], verify: bool) -> list[Shard]:
    """All shards in ``folder`` in the order of their tasks, none missing, each of this set and in its own place."""
    for attempt in range(_ATTEMPTS):
        names = _longest(folder)
        try:
            found = [open_shard(folder / names[low], _identity(card), verify) for low in sorted(names)]
            break
        except IcrlError:  # of a short shard, which a writer has just replaced by a longer one?
            if names == _longest(folder) or attempt == _ATTEMPTS - 1:
                raise
    present, expected = (found[-1].high if found else 0), card.get(COUNT, 1)
    if [shard.low for shard in found] != [0, *(shard.high for shard in found)][: len(found)]:
        raise DamagedError(f"{folder}: shards are missing, found {', '.join(names[low] for low in sorted(names))}")
    if present < expected:
        raise IncompleteError(
            f"{show(folder)}: incomplete: {present:,} of {expected:,} tasks; go on with its collection, or restore "
            "the shards that were there"
        )
    return found
