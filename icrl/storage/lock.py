"""Who may write into a folder: one process at a time, which finds it free of links and of what killed writers left.

The lock file is no artefact; it alone holds a time, a process and a host.
"""

import contextlib
import datetime
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from icrl.core.errors import DamagedError, LockedError
from icrl.storage.paths import explained, refuse_links, show, write_all
from icrl.storage.publish import TEMPORARY, sweep_temporaries
from icrl.storage.strict_json import decode_json, encode_json

LOCK = ".lock"
DEPTH = 2  # levels of folders below that of a run which it writes into: data/SET, checkpoints/seed-N


class RunLock:
    """Exclusive right to write into ``folder`` while the block runs; a second process gets ``LockedError``.

    The kernel holds the lock and frees it when the process dies, however it dies, so a killed holder never blocks.
    Child processes made by ``fork`` share it until they end. The content of the file only informs.
    """

    def __init__(self, folder: Path | str, run_id: str) -> None:
        self.path, self.run_id, self._descriptor = Path(folder) / LOCK, run_id, -1

    def __enter__(self) -> Self:
        with explained(self.path):
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = _describe_holder(os.pread(descriptor, 4096, 0))
                os.close(descriptor)
                place = show(self.path.parent)
                raise LockedError(f"{place}: {holder} is writing here; wait for it, or use another --out") from None
            except BaseException:
                os.close(descriptor)
                raise
        self._descriptor = descriptor
        try:
            _tidy(self.path.parent)
        except BaseException:
            os.close(descriptor)
            raise
        started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        with contextlib.suppress(OSError):  # a full disk must not keep a run from starting
            os.ftruncate(descriptor, 0)
            write_all(descriptor, encode_json({"pid": os.getpid(), "run_id": self.run_id, "started": started}))
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self._descriptor)


def _describe_holder(data: bytes) -> str:
    try:
        holder = decode_json(data, LOCK)
        return f"pid {int(holder['pid'])}, run {show(holder['run_id'])}, since {show(holder['started'])}"
    except (DamagedError, TypeError, KeyError, ValueError):
        return "pid unknown"


def _tidy(folder: Path) -> None:
    """Refuse links in the folders that the holder of ``folder`` writes into; then sweep them of stray temporaries."""
    for own in list(_own_folders(folder, DEPTH)):  # the list: every link is met before anything is removed
        sweep_temporaries(own)


def _own_folders(folder: Path, depth: int) -> Iterator[Path]:
    """``folder`` and the folders below it, but for those that have a lock of their own: their holder sweeps them."""
    with explained(folder), os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    refuse_links(*(entry.path for entry in found if entry.is_symlink()))
    if depth == DEPTH or all(entry.name != LOCK for entry in found):
        yield folder
    for entry in found:
        if depth and entry.is_dir(follow_symlinks=False) and not TEMPORARY.fullmatch(entry.name):
            yield from _own_folders(Path(entry.path), depth - 1)
