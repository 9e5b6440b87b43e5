"""The folder of a run: who may write into it, and which run it holds.

The lock file is no artefact; it alone holds a time.
"""

import contextlib
import datetime
import fcntl
import importlib.metadata
import json
import logging
import os
import platform
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Self

from icrl.core.errors import DamagedError, InputError, LockedError, require
from icrl.storage.publish import (
    TEMPORARY,
    decode_json,
    encode_json,
    explained,
    make_folder,
    plain,
    publish_json,
    read_json,
    show,
    sweep_temporaries,
    write_all,
)

SCHEMA = 1
CONFIG, LOCK = "config.json", ".lock"
PACKAGES = ("icrl", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")  # those that decide the bits
FLAGS = {  # the switches of jax that change random numbers, as jax ships them: what a record without them means
    "jax_default_prng_impl": "threefry2x32",
    "jax_high_dynamic_range_gumbel": False,
    "jax_random_seed_offset": 0,
    "jax_threefry_partitionable": True,
}
_ABSENT = object()
_log = logging.getLogger("icrl")


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


def open_run_folder(
    path: Path | str,
    config: dict[str, Any],
    resume: bool,
    *,
    device: str | None = None,
    flags: dict[str, Any] = FLAGS,
    ignore: Collection[str] = (),
) -> Path:
    """Start a run in ``path``, or with ``resume`` continue the one that is there; call it before taking ``RunLock``.

    A new run needs a folder that is missing or empty; ``config.json`` is published before anything else. A resumed
    one must have the same settings, except for the (dotted) names in ``ignore``, and the same ``flags`` of jax (those
    of ``FLAGS``). Nothing is written into a folder that is refused. ``device`` is recorded, and a change of it or of a
    version is only warned about: the promise of equal bits ends there.
    """
    folder = Path(plain(path))
    settings = json.loads(encode_json(config, "settings"))
    _check_run_folder(folder, settings, resume, flags, ignore)
    make_folder(folder)
    machine = {"versions": _versions(), "device": device}
    with RunLock(folder, "opening"):
        stored = _check_run_folder(folder, settings, resume, flags, ignore)  # again: now nobody else can change it
        sweep_temporaries(folder)
        if stored is None:
            publish_json(folder / CONFIG, {"schema": SCHEMA, "settings": settings, **machine, "flags": flags})
        else:
            for name, before, now in _differences({key: stored[key] for key in machine}, machine):
                _log.warning("%s: %s was %s, is %s now; results may differ", show(folder), name, before, now)
    return folder


def _check_run_folder(
    folder: Path, settings: dict[str, Any], resume: bool, flags: dict[str, Any], ignore: Collection[str]
) -> dict[str, Any] | None:
    """What ``config.json`` holds when the run may be resumed, None when a new one may start, else ``InputError``."""
    with explained(folder):
        require(not os.path.lexists(folder) or folder.is_dir(), "out", show(folder), "a folder", "this is a file")
        names = set(os.listdir(folder)) if folder.exists() else set()
    if CONFIG not in names:
        if resume:
            raise InputError(f"out: {show(folder)} holds no run to resume; leave out --resume to start one there")
        foreign = sorted(name for name in names if name != LOCK and not TEMPORARY.fullmatch(name))
        if foreign:
            raise InputError(f"out: {show(folder)} is not empty (it holds {foreign[0]!r}); use another --out")
        return None
    if not resume:
        raise InputError(
            f"out: {show(folder)} already holds a run; pass --resume to continue it, or another --out for a new one"
        )
    stored = _read_config(folder / CONFIG)
    changed = [
        f"{name} (stored {before}, given {now})"
        for name, before, now in _differences(stored["settings"], settings)
        if not any(name == each or name.startswith(f"{each}.") for each in ignore)
    ]
    if changed:
        raise InputError(
            f"out: {show(folder)} holds a run with other settings: {'; '.join(changed)}; "
            "give the stored ones to resume it, or another --out"
        )
    switched = [
        f"{name} (stored {before}, given {now})"
        for name, before, now in _differences({**FLAGS, **stored.get("flags", {})}, flags)
    ]
    if switched:
        raise InputError(
            f"out: {show(folder)} holds a run that drew its random numbers with other switches of jax: "
            f"{'; '.join(switched)}; set the stored ones to resume it, or give another --out"
        )
    return stored


def _read_config(path: Path) -> dict[str, Any]:
    config, where = read_json(path), show(path)
    fields = {"schema", "settings", "versions", "device"}
    is_record = isinstance(config, dict) and config.keys() - {"flags"} == fields  # older records have no flags
    if not is_record or not all(isinstance(config.get(name, {}), dict) for name in ("settings", "flags")):
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


def _json_text(value: Any) -> str:
    return "nothing" if value is _ABSENT else json.dumps(value, sort_keys=True)


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions
