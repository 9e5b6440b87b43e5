"""The folder of a run: which run it holds, and whether another one may go on in it."""

import contextlib
import importlib.metadata
import json
import logging
import os
import platform
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from icrl.core.errors import DamagedError, InputError, require
from icrl.storage.documents import digest_of, read_document, write_document
from icrl.storage.lock import CONFIG, LOCK, RunLock
from icrl.storage.paths import explained, plain, show
from icrl.storage.publish import TEMPORARY, make_folder
from icrl.storage.strict_json import encode_json

SCHEMA = 1
PARTS = "parts"  # the folder of those that are trained apart, while the run is in parts: K-of-N, each with a lock
PACKAGES = ("icrl", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")  # those that decide the bits
FLAGS = {  # the switches of jax that change random numbers, as jax ships them: what a record without them means
    "jax_default_prng_impl": "threefry2x32",
    "jax_high_dynamic_range_gumbel": False,
    "jax_random_seed_offset": 0,
    "jax_threefry_partitionable": True,
}
_CONFIG = {"schema": int, "settings": dict, "versions": dict, "device": (str, None), "flags": dict}
_ABSENT = object()
_log = logging.getLogger("icrl")


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
    of ``FLAGS``). Nothing is written into a folder that is refused, and whoever holds it is named (``LockedError``).
    ``device`` is recorded, and a change of it or of a version is only warned about: the promise of equal bits ends
    there.
    """
    folder = Path(plain(path))
    settings = json.loads(encode_json(config, "settings"))
    _check_run_folder(folder, settings, resume, flags, ignore)
    make_folder(folder)
    machine = {"versions": versions(), "device": device}
    with RunLock(folder, "opening"):
        stored = _check_run_folder(folder, settings, resume, flags, ignore)  # again: now nobody else can change it
        if stored is None:
            write_document(folder / CONFIG, {"schema": SCHEMA, "settings": settings, **machine, "flags": flags})
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
        RunLock(folder, "looking").refuse_if_held()  # one of two new runs: waiting helps, and --resume does not
        raise InputError(
            f"out: {show(folder)} already holds a run; pass --resume to continue it, or another --out for a new one"
        )
    stored = read_config(folder)
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
    switched = [f"{name} (stored {before}, given {now})" for name, before, now in _differences(stored["flags"], flags)]
    if switched:
        raise InputError(
            f"out: {show(folder)} holds a run that drew its random numbers with other switches of jax: "
            f"{'; '.join(switched)}; set the stored ones to resume it, or give another --out"
        )
    return stored


def read_config(folder: Path | str) -> dict[str, Any]:
    """What ``config.json`` of the run in ``folder`` says: its settings, flags, versions and device.

    Raises:
      InputError: no such file, or one of another version of it. DamagedError: it is not as it was written.
    """
    path = Path(folder) / CONFIG
    config = read_document(path, _CONFIG, ("schema", SCHEMA))
    if config.keys() != _CONFIG.keys():
        raise DamagedError(f"{show(path)}: expected the fields {', '.join(sorted(_CONFIG))}, found others")
    return config


def identity_of(folder: Path | str) -> dict[str, str]:
    """What tells the run in ``folder`` from all others: digests of its whole config and of its settings alone.

    Runs of equal settings and seed on equal machines with equal versions are the same, bit for bit, and so is this.
    Empty where no run is (a loop of one's own that calls ``fit``).
    """
    if not os.path.lexists(Path(folder) / CONFIG):
        return {}
    config = read_config(folder)
    return {"run": digest_of(config)[:16], "settings": digest_of(config["settings"])[:16]}


def _differences(before: Any, now: Any, name: str = "") -> Iterator[tuple[str, str, str]]:
    """Triples (dotted name, first value, second value) of the leaves that differ; values as JSON or 'nothing'."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            yield from _differences(before.get(key, _ABSENT), now.get(key, _ABSENT), f"{name}.{key}" if name else key)
    elif _json_text(before) != _json_text(now):  # by text: 1, 1.0 and true are different settings
        yield name, _json_text(before), _json_text(now)


def _json_text(value: Any) -> str:
    return "nothing" if value is _ABSENT else json.dumps(value, sort_keys=True)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide the bits, by name."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found
