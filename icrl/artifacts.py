"""The only module that publishes files: each appears whole under its final name, or not at all.

The order is always the same: write under a temporary name in the same folder, fsync, rename, fsync the parent, and
only then return. A process killed at any moment therefore leaves the old content, the new content, or a temporary
that ``sweep_temporaries`` knows by name; after a power cut the same holds, as far as the disk honours fsync.
Folders carry a manifest with the size and sha256 of every file and a digest of the manifest itself, so that changed
bytes are found before they are used. Nothing here reads the clock, the user or the host into an artefact; the lock
file, which is no artefact, holds the time it was taken.
"""

import contextlib
import datetime
import errno
import fcntl
import hashlib
import importlib.metadata
import json
import logging
import math
import os
import platform
import re
import secrets
import shutil
import stat
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Self

from icrl.errors import DamagedError, InputError, LockedError, ResourceError, require

SCHEMA = 1
CONFIG, MANIFEST, LOCK = "config.json", "manifest.json", ".lock"
PACKAGES = ("icrl", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")  # those that decide the bits
_TEMPORARY = re.compile(r"\.icrl-tmp-[0-9a-f]{16}")
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_CRC = re.compile(rb',"crc":"([0-9a-f]{8})"\}')  # the end of every line of a metric record
_CRC_LENGTH = len(b',"crc":"01234567"}')
_log = logging.getLogger("icrl")


# --- Whole files ---


def publish_file(path: Path | str, data: bytes) -> None:
    """Put ``data`` under ``path``, replacing what was there; a reader sees the old bytes or the new ones."""
    path = Path(path)
    temporary = _temporary_name(path.parent)
    with explained(path, len(data)), _removing(temporary):
        _write_new(temporary, data)
        os.replace(temporary, path)
        _sync(path.parent)


def publish_json(path: Path | str, value: Any) -> None:
    """Publish ``value`` as strict JSON: sorted keys, no NaN or infinity, one trailing newline."""
    publish_file(path, encode_json(value, _show(path)))


def read_json(path: Path | str) -> Any:
    """Read strict JSON. A missing file is an ``InputError``; duplicate keys, NaN or broken text a ``DamagedError``."""
    with explained(path):
        data = Path(path).read_bytes()
    return _decode_json(data, _show(path))


def encode_json(value: Any, what: str = "value") -> bytes:
    """The one byte form of a JSON value, so that equal values have equal digests."""
    try:
        return (json.dumps(value, sort_keys=True, allow_nan=False, indent=1) + "\n").encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{what}: cannot be written as JSON: {error}") from error


def _decode_json(data: bytes, where: str) -> Any:
    def number(text: str) -> float:
        if not math.isfinite(float(text)):
            raise ValueError(f"the number {text} is not finite")
        return float(text)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) < len(pairs):
            keys = [key for key, _ in pairs]
            raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} occurs twice")
        return value

    try:
        return json.loads(data.decode(), object_pairs_hook=unique, parse_constant=number, parse_float=number)
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{where}: not strict JSON: {error}") from error


# --- Whole folders ---


@contextlib.contextmanager
def publishing_folder(final: Path | str, meta: dict[str, Any]) -> Iterator[Path]:
    """Yield a temporary folder to fill; when the block ends well it is sealed by a manifest and renamed to ``final``.

    When the block raises, the temporary is removed and nothing else has changed. An existing ``final`` is refused.
    """
    final = Path(final)
    meta = json.loads(encode_json(meta, "meta"))
    temporary = _temporary_name(final.parent)
    with _removing(temporary):
        with explained(final):
            _refuse_existing(final)
            os.mkdir(temporary)
        try:
            yield temporary
        except OSError as error:
            if disk_full(error):
                raise out_of_space(final, _bytes_in(temporary), error) from error
            raise
        with explained(final, _bytes_in(temporary)):
            _seal(temporary, meta)
            _refuse_existing(final)  # rename would silently replace an empty folder
            os.rename(temporary, final)
            _sync(final.parent)


def verify_folder(path: Path | str) -> dict[str, Any]:
    """Check every byte of a published folder against its manifest and return the ``meta`` it was published with.

    Missing, added, linked or changed files, and any change to the manifest, are a ``DamagedError`` that names the
    file, what was expected and what was found.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise InputError(f"{_show(path)}: no such folder")
    manifest = _read_manifest(folder / MANIFEST)
    with explained(folder):
        present = dict(_regular_files(folder))
        present.pop(MANIFEST, None)
        for name, expected in manifest["files"].items():
            if name not in present:
                raise DamagedError(f"{_show(folder / name)}: expected {expected['size']} bytes, found no such file")
            size = os.stat(present[name]).st_size
            found = {"size": size, "sha256": _sha256(present[name]) if size == expected["size"] else "not computed"}
            for field in ("size", "sha256"):
                if found[field] != expected[field]:
                    raise DamagedError(
                        f"{_show(present[name])}: {field}: expected {expected[field]}, found {found[field]}"
                    )
    for name in present.keys() - manifest["files"].keys():
        raise DamagedError(f"{_show(present[name])}: expected no such file, found one that the manifest does not list")
    return manifest["meta"]


def discard_folder(path: Path | str) -> None:
    """Remove a published folder; it leaves its final name at once, so that a kill leaves no half of it there."""
    path = Path(path)
    temporary = _temporary_name(path.parent)
    with explained(path):
        os.rename(path, temporary)
        _remove(temporary)


def sweep_temporaries(folder: Path | str) -> list[str]:
    """Remove what killed writers left in ``folder`` (not below). Call it only while holding the folder's lock."""
    with explained(folder):
        names = os.listdir(folder) if os.path.isdir(folder) else []
        stale = sorted(name for name in names if _TEMPORARY.fullmatch(name))
        for name in stale:
            _remove(Path(folder) / name)
    return stale


def make_folder(path: Path | str) -> None:
    """Create ``path`` and its parents, durably; an existing folder is fine."""
    path = Path(os.path.abspath(path))
    with explained(path):
        for folder in reversed([path, *path.parents]):
            if not folder.is_dir():
                try:
                    os.mkdir(folder)
                except FileExistsError:  # by another process, or a file stands there
                    require(folder.is_dir(), "folder", _show(folder), "a name that is no file")
                _sync(folder.parent)


def _seal(folder: Path, meta: dict[str, Any]) -> None:
    files = {}
    for name, path in _regular_files(folder):
        _sync(path)
        files[name] = {"sha256": _sha256(path), "size": os.stat(path).st_size}
    body = {"schema": SCHEMA, "meta": meta, "files": files}
    digest = hashlib.sha256(encode_json(body)).hexdigest()
    _write_new(folder / MANIFEST, encode_json({**body, "digest": digest}))
    for inner, _, _ in os.walk(folder, topdown=False):
        _sync(Path(inner))


def _read_manifest(path: Path) -> dict[str, Any]:
    where = _show(path)
    if path.is_symlink() or not path.is_file():
        raise DamagedError(f"{where}: expected a manifest, found none")
    with explained(path):
        data = path.read_bytes()
    manifest = _decode_json(data, where)
    if not isinstance(manifest, dict) or manifest.keys() != {"schema", "meta", "files", "digest"}:
        raise DamagedError(f"{where}: expected the fields schema, meta, files, digest, found others")
    body = {field: manifest[field] for field in ("schema", "meta", "files")}
    digest = hashlib.sha256(encode_json(body)).hexdigest()
    if manifest["digest"] != digest:
        raise DamagedError(f"{where}: digest: expected {manifest['digest']!r}, found {digest!r}")
    if data != encode_json(manifest):  # the same value in other bytes: somebody rewrote it
        raise DamagedError(f"{where}: expected the form this package writes, found another spelling of it")
    require(manifest["schema"] == SCHEMA, f"{where}: schema", manifest["schema"], str(SCHEMA))
    files = manifest["files"]
    if not isinstance(files, dict) or not all(_is_entry(name, entry) for name, entry in files.items()):
        raise DamagedError(f"{where}: files: expected names inside the folder, each with sha256 and size")
    return manifest


def _is_entry(name: str, entry: Any) -> bool:
    plain = PurePosixPath(name)
    inside = not plain.is_absolute() and ".." not in plain.parts and str(plain) == name and "\0" not in name
    return inside and name not in (".", MANIFEST) and isinstance(entry, dict) and entry.keys() == {"sha256", "size"}


def _regular_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Pairs (name relative to ``folder``, path), sorted; links and special files are refused, not followed."""
    for inner, folders, names in os.walk(folder, onerror=_raise):
        folders.sort()
        for name in sorted(names + [each for each in folders if os.path.islink(os.path.join(inner, each))]):
            path = Path(inner) / name
            if not stat.S_ISREG(os.lstat(path).st_mode):
                raise DamagedError(f"{_show(path)}: expected a regular file, found a link or a special file")
            yield path.relative_to(folder).as_posix(), path


# --- Records of metrics: one JSON object a line ---


def append_jsonl(path: Path | str, rows: Iterable[dict[str, Any]]) -> None:
    """Append ``rows`` durably, each with the crc32 of its own text; a torn last line is removed first.

    After a failure the file is cut back to what it was, so a full disk costs only the new rows.
    """
    lines = b"".join(_encode_row(row, _show(path)) for row in rows)
    with explained(path, len(lines)):
        is_new = not os.path.lexists(path)
        if not is_new and _is_torn(path):
            truncate_jsonl(path, keep=lambda row: True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666)
        try:
            size = os.fstat(descriptor).st_size
            try:
                _write_all(descriptor, lines)
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)
        if is_new:
            _sync(Path(path).parent)


def read_jsonl(path: Path | str) -> list[dict[str, Any]]:
    """Read a metric record. One torn last line is dropped: it was never acknowledged. Other damage is an error."""
    with explained(path):
        *lines, torn = Path(path).read_bytes().split(b"\n")
    rows = [_decode_row(line, f"{_show(path)}: line {number}") for number, line in enumerate(lines, start=1)]
    if _checked_text(torn[:-1]) is not None:  # a whole line and one byte more: its newline was changed, not torn off
        raise DamagedError(f"{_show(path)}: line {len(rows) + 1}: expected a newline at its end, found {torn[-1:]!r}")
    return rows


def truncate_jsonl(path: Path | str, keep: Callable[[dict[str, Any]], bool]) -> None:
    """Rewrite the record with only the rows that ``keep``, so that a resumed run writes no step twice.

    A record that does not exist yet (the run died before its first row) is left so.
    """
    if os.path.lexists(path):
        publish_file(path, b"".join(_encode_row(row, _show(path)) for row in read_jsonl(path) if keep(row)))


def _encode_row(row: dict[str, Any], where: str) -> bytes:
    require(bool(row) and "crc" not in row, f"{where}: row", sorted(row), "fields other than crc, at least one")
    try:
        text = json.dumps(row, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{where}: row cannot be written as JSON: {error}") from error
    return text[:-1] + f',"crc":"{zlib.crc32(text):08x}"}}\n'.encode()


def _decode_row(line: bytes, where: str) -> dict[str, Any]:
    text = _checked_text(line)
    row = None if text is None else _decode_json(text, where)
    if not isinstance(row, dict):
        raise DamagedError(f"{where}: expected an object that matches its crc, found other bytes")
    return row


def _checked_text(line: bytes) -> bytes | None:
    """The JSON text of a line without its crc field, or None when the two do not agree."""
    text, crc = line[:-_CRC_LENGTH] + b"}", _CRC.fullmatch(line[-_CRC_LENGTH:])
    return text if crc and int(crc[1], 16) == zlib.crc32(text) else None


def _is_torn(path: Path | str) -> bool:
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 1, 0))
        return file.read(1) not in (b"", b"\n")


# --- One writer per folder ---


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
                place = _show(self.path.parent)
                raise LockedError(f"{place}: {holder} is writing here; wait for it, or use another --out") from None
            except BaseException:
                os.close(descriptor)
                raise
        self._descriptor = descriptor
        started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        with contextlib.suppress(OSError):  # a full disk must not keep a run from starting
            os.ftruncate(descriptor, 0)
            _write_all(descriptor, encode_json({"pid": os.getpid(), "run_id": self.run_id, "started": started}))
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self._descriptor)


def _describe_holder(data: bytes) -> str:
    try:
        holder = _decode_json(data, LOCK)
        return f"pid {int(holder['pid'])}, run {_show(holder['run_id'])}, since {_show(holder['started'])}"
    except (DamagedError, TypeError, KeyError, ValueError):
        return "pid unknown"


# --- The folder of a run ---


def open_run_folder(
    path: Path | str,
    config: dict[str, Any],
    resume: bool,
    *,
    device: str | None = None,
    ignore: Collection[str] = (),
) -> Path:
    """Start a run in ``path``, or with ``resume`` continue the one that is there; call it before taking ``RunLock``.

    A new run needs a folder that is missing or empty; ``config.json`` is published before anything else. A resumed
    one must have the same settings, except for the (dotted) names in ``ignore``. Nothing is written into a folder
    that is refused. ``device`` is recorded, and a change of it or of a version is only warned about: the promise of
    equal bits ends there.
    """
    folder = Path(_plain(path))
    settings = json.loads(encode_json(config, "settings"))
    _check_run_folder(folder, settings, resume, ignore)
    make_folder(folder)
    machine = {"versions": _versions(), "device": device}
    with RunLock(folder, "opening"):
        stored = _check_run_folder(folder, settings, resume, ignore)  # again: now nobody else can change it
        sweep_temporaries(folder)
        if stored is None:
            publish_json(folder / CONFIG, {"schema": SCHEMA, "settings": settings, **machine})
        else:
            for name, before, now in _differences({key: stored[key] for key in machine}, machine):
                _log.warning("%s: %s was %s, is %s now; results may differ", _show(folder), name, before, now)
    return folder


def _check_run_folder(
    folder: Path, settings: dict[str, Any], resume: bool, ignore: Collection[str]
) -> dict[str, Any] | None:
    """What ``config.json`` holds when the run may be resumed, None when a new one may start, else ``InputError``."""
    with explained(folder):
        require(not os.path.lexists(folder) or folder.is_dir(), "out", _show(folder), "a folder", "this is a file")
        names = set(os.listdir(folder)) if folder.exists() else set()
    if CONFIG not in names:
        if resume:
            raise InputError(f"out: {_show(folder)} holds no run to resume; leave out --resume to start one there")
        foreign = sorted(name for name in names if name != LOCK and not _TEMPORARY.fullmatch(name))
        if foreign:
            raise InputError(f"out: {_show(folder)} is not empty (it holds {foreign[0]!r}); use another --out")
        return None
    if not resume:
        raise InputError(
            f"out: {_show(folder)} already holds a run; pass --resume to continue it, or another --out for a new one"
        )
    stored = _read_config(folder / CONFIG)
    changed = [
        f"{name} (stored {before}, given {now})"
        for name, before, now in _differences(stored["settings"], settings)
        if not any(name == each or name.startswith(f"{each}.") for each in ignore)
    ]
    if changed:
        raise InputError(
            f"out: {_show(folder)} holds a run with other settings: {'; '.join(changed)}; "
            "give the stored ones to resume it, or another --out"
        )
    return stored


def _read_config(path: Path) -> dict[str, Any]:
    config, where = read_json(path), _show(path)
    fields = {"schema", "settings", "versions", "device"}
    if not isinstance(config, dict) or config.keys() != fields or not isinstance(config["settings"], dict):
        raise DamagedError(f"{where}: expected the fields {', '.join(sorted(fields))}, found others")
    require(config["schema"] == SCHEMA, f"{where}: schema", config["schema"], str(SCHEMA))
    return config


def _differences(before: Any, now: Any, name: str = "") -> Iterator[tuple[str, str, str]]:
    """Triples (dotted name, first value, second value) of the leaves that differ; values as JSON or 'nothing'."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            yield from _differences(before.get(key, _ABSENT), now.get(key, _ABSENT), f"{name}.{key}" if name else key)
    elif _json_text(before) != _json_text(now):  # by text: 1, 1.0 and true are different settings
        yield name, _json_text(before), _json_text(now)


_ABSENT = object()


def _json_text(value: Any) -> str:
    return "nothing" if value is _ABSENT else json.dumps(value, sort_keys=True)


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


# --- Errors and small tools ---


@contextlib.contextmanager
def explained(path: Path | str, needed: int = 0) -> Iterator[None]:
    """Turn an ``OSError`` of the block into one of ours: full disk, damaged disk, or a path that cannot be used."""
    try:
        yield
    except OSError as error:
        if disk_full(error):
            raise out_of_space(path, needed, error) from error
        kind = DamagedError if error.errno == errno.EIO else InputError
        raise kind(f"{_show(path)}: {error.strerror or error}") from error


def disk_full(error: BaseException) -> bool:
    """Whether ``error`` says that the disk, the quota or the allowed file size is used up."""
    return isinstance(error, OSError) and error.errno in _DISK_FULL


def out_of_space(path: Path | str, needed: int, reason: object) -> ResourceError:
    """The error for a write that did not fit; nothing of it is left and what was there before is intact."""
    place = next((each for each in Path(os.path.abspath(path)).parents if each.exists()), Path("/"))
    said = reason.strerror if isinstance(reason, OSError) else reason
    return ResourceError(
        f"{_show(path)}: {said}: needs at least {needed} bytes, {shutil.disk_usage(place).free} are free; "
        "earlier files are intact, free some space and go on"
    )


def _plain(path: Path | str) -> str:
    """``path`` when the file system can spell it."""
    text = os.fspath(path)
    try:
        spelled = bool(text) and b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        spelled = False
    require(spelled, "out", text, "a path without NUL and lone surrogates")
    return text


def _show(text: object) -> str:
    """Text for a message: escaped when it could break the line or colour the terminal."""
    return str(text) if str(text).isprintable() else ascii(str(text))


def _temporary_name(folder: Path) -> Path:
    return folder / f".icrl-tmp-{secrets.token_hex(8)}"


@contextlib.contextmanager
def _removing(temporary: Path) -> Iterator[None]:
    """Remove ``temporary`` when the block fails, without hiding why it failed."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            _remove(temporary)
        raise


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _refuse_existing(final: Path) -> None:
    if os.path.lexists(final):
        raise InputError(f"{_show(final)}: already exists and is never overwritten")


def _write_new(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        _write_all(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _sync(path: Path) -> None:
    """Make the content of a file, or the names in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | (os.O_DIRECTORY if path.is_dir() else os.O_NOFOLLOW))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _bytes_in(folder: Path) -> int:
    return sum(os.lstat(os.path.join(inner, name)).st_size for inner, _, names in os.walk(folder) for name in names)


def _raise(error: OSError) -> None:
    raise error
