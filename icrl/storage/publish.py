"""The only module that publishes files: each appears whole under its final name, or not at all.

The order is always the same: write under a temporary name in the same folder, fsync, rename, fsync the parent, and
only then return. A process killed at any moment therefore leaves the old content, the new content, or a temporary
that ``sweep_temporaries`` knows by name; after a power cut the same holds, as far as the disk honours fsync.
Folders carry a manifest with the size and sha256 of every file and a digest of the manifest itself, so that changed
bytes are found before they are used. Nothing here reads the clock, the user or the host into an artefact.
"""

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from icrl.core.errors import DamagedError, InputError, require
from icrl.storage.paths import disk_full, explained, out_of_space, show, sync, write_all
from icrl.storage.strict_json import decode_json, encode_json

SCHEMA = 1
MANIFEST = "manifest.json"
TEMPORARY = re.compile(r"\.icrl-tmp-[0-9a-f]{16}")


# --- Whole files ---


def publish_file(path: Path | str, data: bytes) -> None:
    """Put ``data`` under ``path``, replacing what was there; a reader sees the old bytes or the new ones."""
    path = Path(path)
    temporary = temporary_name(path.parent)
    with explained(path, len(data)), removing(temporary):
        write_new(temporary, data)
        os.replace(temporary, path)
        sync(path.parent)


def publish_json(path: Path | str, value: Any) -> None:
    """Publish ``value`` as strict JSON: sorted keys, no NaN or infinity, one trailing newline."""
    publish_file(path, encode_json(value, show(path)))


def read_json(path: Path | str) -> Any:
    """Read strict JSON. A missing file is an ``InputError``; duplicate keys, NaN or broken text a ``DamagedError``."""
    with explained(path):
        data = Path(path).read_bytes()
    return decode_json(data, show(path))


# --- Whole folders ---


@contextlib.contextmanager
def publishing_folder(final: Path | str, meta: dict[str, Any]) -> Iterator[Path]:
    """Yield a temporary folder to fill; when the block ends well it is sealed by a manifest and renamed to ``final``.

    When the block raises, the temporary is removed and nothing else has changed. An existing ``final`` is refused.
    """
    final = Path(final)
    meta = json.loads(encode_json(meta, "meta"))
    temporary = temporary_name(final.parent)
    with removing(temporary):
        with explained(final):
            _refuse_existing(final)
            os.mkdir(temporary)
        with full_disk_explained(final, temporary):
            yield temporary
        with explained(final, bytes_in(temporary)):
            _seal(temporary, meta)
            _refuse_existing(final)  # rename would silently replace an empty folder
            os.rename(temporary, final)
            sync(final.parent)


def verify_folder(path: Path | str) -> dict[str, Any]:
    """Check every byte of a published folder against its manifest and return the ``meta`` it was published with.

    Missing, added, linked or changed files, and any change to the manifest, are a ``DamagedError`` that names the
    file, what was expected and what was found.
    """
    folder = Path(path)
    if folder.is_symlink():
        raise DamagedError(f"{show(path)}: expected a folder, found a link")
    if not folder.is_dir():
        raise InputError(f"{show(path)}: no such folder")
    manifest = read_manifest(folder / MANIFEST)
    with explained(folder):
        present = dict(regular_files(folder))
        present.pop(MANIFEST, None)
        for name, expected in manifest["files"].items():
            if name not in present:
                raise DamagedError(f"{show(folder / name)}: expected {expected['size']} bytes, found no such file")
            size = os.stat(present[name]).st_size
            found = {"size": size, "sha256": file_digest(present[name]) if size == expected["size"] else "not computed"}
            for field in ("size", "sha256"):
                if found[field] != expected[field]:
                    raise DamagedError(
                        f"{show(present[name])}: {field}: expected {expected[field]}, found {found[field]}"
                    )
    for name in present.keys() - manifest["files"].keys():
        raise DamagedError(f"{show(present[name])}: expected no such file, found one that the manifest does not list")
    return manifest["meta"]


def discard_folder(path: Path | str) -> None:
    """Remove a published folder; it leaves its final name at once, so that a kill leaves no half of it there."""
    path = Path(path)
    temporary = temporary_name(path.parent)
    with explained(path):
        os.rename(path, temporary)
        remove_tree(temporary)


def sweep_temporaries(folder: Path | str, unless: str = "") -> list[str]:
    """Remove what killed writers left in ``folder`` (not below). Call it only while holding the folder's lock.

    Whoever holds the lock of a folder above names in ``unless`` the file that a writer here makes before all others.
    """
    with explained(folder):
        names = os.listdir(folder) if os.path.isdir(folder) else []
        stale = sorted(name for name in names if TEMPORARY.fullmatch(name))
        if unless and os.path.lexists(Path(folder) / unless):  # looked for now: it is older than what was just listed
            return []
        for name in stale:
            remove_tree(Path(folder) / name)
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
                    require(folder.is_dir(), "folder", show(folder), "a name that is no file")
                sync(folder.parent)


def _seal(folder: Path, meta: dict[str, Any]) -> None:
    files = {}
    for name, path in regular_files(folder):
        sync(path)
        files[name] = {"sha256": file_digest(path), "size": os.stat(path).st_size}
    body = {"schema": SCHEMA, "meta": meta, "files": files}
    digest = hashlib.sha256(encode_json(body)).hexdigest()
    write_new(folder / MANIFEST, encode_json({**body, "digest": digest}))
    for inner, _, _ in os.walk(folder, topdown=False):
        sync(Path(inner))


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest at ``path``, itself verified; the files it lists are not looked at (``verify_folder`` does)."""
    where = show(path)
    if path.is_symlink() or not path.is_file():
        raise DamagedError(f"{where}: expected a manifest, found none")
    with explained(path):
        data = path.read_bytes()
    manifest = decode_json(data, where)
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
    if not inside or name in (".", MANIFEST) or not isinstance(entry, dict) or entry.keys() != {"sha256", "size"}:
        return False
    return type(entry["size"]) is int and re.fullmatch("[0-9a-f]{64}", str(entry["sha256"])) is not None


def regular_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Pairs (name relative to ``folder``, path), sorted; links and special files are refused, not followed."""
    for inner, folders, names in os.walk(folder, onerror=_raise):
        folders.sort()
        for name in sorted(names + [each for each in folders if os.path.islink(os.path.join(inner, each))]):
            path = Path(inner) / name
            if not stat.S_ISREG(os.lstat(path).st_mode):
                raise DamagedError(f"{show(path)}: expected a regular file, found a link or a special file")
            yield path.relative_to(folder).as_posix(), path


# --- Small tools ---


def temporary_name(folder: Path) -> Path:
    """A new name in ``folder`` that ``sweep_temporaries`` knows."""
    return folder / f".icrl-tmp-{secrets.token_hex(8)}"


@contextlib.contextmanager
def removing(temporary: Path) -> Iterator[None]:
    """Remove ``temporary`` when the block fails, without hiding why it failed."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            remove_tree(temporary)
        raise


@contextlib.contextmanager
def full_disk_explained(final: Path, temporary: Path) -> Iterator[None]:
    """Turn a full disk met while ``temporary`` is filled into our error; what else fails there is not ours."""
    try:
        yield
    except OSError as error:
        if disk_full(error):
            raise out_of_space(final, bytes_in(temporary), error) from error
        raise


def remove_tree(path: Path) -> None:
    """Remove a file, a link or a folder with all that is in it; nothing behind links."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _refuse_existing(final: Path) -> None:
    if os.path.lexists(final):
        raise InputError(f"{show(final)}: already exists and is never overwritten")


def write_new(path: Path, *parts: bytes | memoryview) -> None:
    """Write ``parts`` one behind the other into a new file, durably; an ``OSError`` has its errno."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        for part in parts:
            write_all(descriptor, part)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_digest(path: Path) -> str:
    """The sha256 of a file, which is no link."""
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def bytes_in(folder: Path) -> int:
    """Bytes of all files below ``folder``."""
    return sum(os.lstat(os.path.join(inner, name)).st_size for inner, _, names in os.walk(folder) for name in names)


def _raise(error: OSError) -> None:
    raise error
