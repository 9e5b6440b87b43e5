"""Paths and what can go wrong with them, each in one line: full disks, names nobody can spell, links that lead away."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from icrl.core.errors import DamagedError, InputError, ResourceError, require, shortened

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextlib.contextmanager
def explained(path: Path | str, needed: int = 0) -> Iterator[None]:
    """Turn what goes wrong with ``path`` in the block into one of ours: full or damaged disk, a path of no use."""
    try:
        yield
    except ValueError:  # Python's for what it cannot hand to the system
        plain(path, "path")
        raise
    except OSError as error:
        if disk_full(error):
            raise out_of_space(path, needed, error) from error
        kind = DamagedError if error.errno == errno.EIO else InputError
        raise kind(f"{show(path)}: {error.strerror or error}") from error


def disk_full(error: BaseException) -> bool:
    """Whether ``error`` says that the disk, the quota or the allowed file size is used up."""
    unnumbered = isinstance(error, OSError) and error.errno is None  # NumPy: "23040 requested and 3968 written"
    return isinstance(error, OSError) and (error.errno in _DISK_FULL or (unnumbered and "requested and" in str(error)))


def out_of_space(path: Path | str, needed: int, reason: object) -> ResourceError:
    """The error for a write that did not fit; nothing of it is left and what was there before is intact."""
    place = next((each for each in Path(os.path.abspath(path)).parents if each.exists()), Path("/"))
    said = reason.strerror or reason if isinstance(reason, OSError) else reason
    return ResourceError(
        f"{show(path)}: {said}: needs at least {needed} bytes, {shutil.disk_usage(place).free} are free; "
        "earlier files are intact, free some space and go on"
    )


def plain(path: Path | str, field: str = "out") -> str:
    """``path`` when the file system can spell it; ``InputError`` that names ``field`` otherwise."""
    text = os.fspath(path)
    try:
        spelled = bool(text) and b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        spelled = False
    require(spelled, field, text, "a path without NUL and lone surrogates")
    return text


def show(text: object) -> str:
    """Text for a message: escaped when it could break the line or colour the terminal, the middle of a long one out."""
    return shortened(str(text) if str(text).isprintable() else ascii(str(text)))


def refuse_links(*paths: Path | str) -> None:
    """Raise ``InputError`` for a path that is a symbolic link: what is written below it would land elsewhere."""
    for path in paths:
        if os.path.islink(path):
            raise InputError(f"{show(path)}: is a link, and nothing is written through links; put a folder there")


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write every byte, however many calls it takes."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def sync(path: Path) -> None:
    """Make the content of a file, or the names in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | (os.O_DIRECTORY if path.is_dir() else os.O_NOFOLLOW))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
