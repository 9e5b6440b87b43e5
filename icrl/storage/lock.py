"""Who may write into a folder: one process at a time, which finds it free of links and of what killed writers left.

The lock file is no artefact; it alone holds a time, a process and a host.
"""

import contextlib
import datetime
import logging
import os
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self, TypeVar

from icrl.core.errors import DamagedError, InputError, LockedError
from icrl.storage.documents import digest_of, read_document
from icrl.storage.paths import explained, refuse_links, show, write_all
from icrl.storage.publish import TEMPORARY, sweep_temporaries
from icrl.storage.strict_json import decode_json, encode_json
from icrl.storage.typed import conform

try:
    import fcntl
except ImportError:  # such a system can still read what others wrote
    fcntl = None  # type: ignore[assignment]

CONFIG, LOCK = "config.json", ".lock"
PATIENCE = 60.0  # seconds in which many processes that begin at once have done so, on a machine that is busy
MOMENT = 3.0  # seconds of waiting after which a log says for whom
LOOKS = 20  # hundredths of a second in which somebody may only look who holds the lock
DEPTH = 2  # levels of folders below that of a run which it writes into: data/SET, checkpoints/seed-N, parts/K-of-N
Result = TypeVar("Result")
_log = logging.getLogger("icrl")


class RunLock:
    """Exclusive right to write into ``folder`` while the block runs; a second process gets ``LockedError``.

    The kernel holds the lock and frees it when the process dies, however it dies, so a killed holder never blocks.
    The folder itself is locked beside the file, where the file system can do so, and whoever removes the file lets
    nobody in. Child processes made by ``fork`` share the lock until they end. The content of the file only informs.
    """

    def __init__(self, folder: Path | str, run_id: str) -> None:
        self.path, self.run_id = Path(folder) / LOCK, run_id
        self._held = contextlib.ExitStack()

    def __enter__(self) -> Self:
        if fcntl is None:
            raise InputError(f"{show(self.path)}: files cannot be locked on this system; Linux and macOS can")
        with self._held as held, explained(self.path):
            self._lock_folder(held)
            descriptor = self._lock_file(held)
            with contextlib.suppress(OSError):  # a full disk must not keep a run from starting
                os.ftruncate(descriptor, 0)
                write_all(descriptor, encode_json(self._about_us()))
            _tidy(self.path.parent)
            self._held = held.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._held.close()

    def _lock_folder(self, held: contextlib.ExitStack) -> None:
        descriptor = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        held.callback(os.close, descriptor)
        try:
            _lock(descriptor)
        except BlockingIOError:
            raise self._locked() from None
        except OSError:
            pass  # some network file systems lock files only

    def _lock_file(self, held: contextlib.ExitStack) -> int:
        """The descriptor of the lock file that is locked, and that is still the one of this name."""
        while True:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
            held.callback(os.close, descriptor)
            try:
                _lock(descriptor)
            except BlockingIOError:
                raise self._locked() from None
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(self.path, follow_symlinks=False)):
                    return descriptor

    def refuse_if_held(self) -> None:
        """Raise ``LockedError`` if somebody holds the lock; nothing is created or written."""
        if fcntl is None:
            return
        for path, flag in ((self.path.parent, os.O_DIRECTORY), (self.path, os.O_NOFOLLOW)):
            with contextlib.suppress(OSError), contextlib.ExitStack() as held:  # what cannot be opened tells nothing
                descriptor = os.open(path, os.O_RDONLY | flag)
                held.callback(os.close, descriptor)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise self._locked() from None

    def _locked(self) -> LockedError:
        try:
            holder = _describe_holder(self.path.read_bytes())
        except OSError:
            holder = "another process"
        return LockedError(f"{show(self.path.parent)}: {holder} is writing here; wait for it, or use another --out")

    def _about_us(self) -> dict[str, Any]:
        """Who holds the lock; a run that has a config is named by the beginning of its digest too."""
        run_id, started = self.run_id, datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        with contextlib.suppress(InputError, DamagedError):
            run_id += f" {digest_of(read_document(self.path.with_name(CONFIG)))[:16]}"
        return {"host": platform.node(), "pid": os.getpid(), "run_id": run_id, "started": started}


def patiently(act: Callable[[], Result], seconds: float = PATIENCE) -> Result:
    """What ``act`` returns, tried again for ``seconds`` while somebody else holds a lock that it needs.

    Who that is, is logged after a moment.
    """
    began, told = time.monotonic(), False
    while True:
        try:
            return act()
        except LockedError as error:
            waited = time.monotonic() - began
            if waited >= seconds:
                raise
            if waited >= MOMENT and not told:
                _log.warning("waiting: %s", error)
                told = True
        time.sleep(0.1)


def _lock(descriptor: int) -> None:
    """Lock an open file; ``BlockingIOError`` if somebody holds it for longer than a look takes."""
    for _ in range(LOOKS):
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.01)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _describe_holder(data: bytes) -> str:
    try:
        holder = decode_json(data, LOCK)
        conform(holder, {"host": str, "pid": int, "run_id": str, "started": str}, LOCK)
    except DamagedError:
        return "another process"
    host, pid, run_id, started = (show(holder[name]) for name in ("host", "pid", "run_id", "started"))
    return f"pid {pid} on {host}, run {run_id}, since {started},"


def _tidy(folder: Path) -> None:
    """Refuse links in the folders that the holder of ``folder`` writes into; then sweep them of stray temporaries."""
    for own in list(_own_folders(folder, DEPTH)):  # the list: every link is met before anything is removed
        sweep_temporaries(own, unless="" if own == folder else LOCK)


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
