"""Compiled programs kept between commands, in the user's cache folder: what is compiled once is read from then on.

jax finds a program by the digest of its text, its options, versions and device, so that a stale one is never used; what
is computed stays the same bit for bit. ``JAX_COMPILATION_CACHE_DIR`` of the user goes before, and
``ICRL_COMPILATION_CACHE=off`` keeps nothing. It is not part of ``config.json``, whose digest tells runs apart.
"""

import contextlib
import hashlib
import os
import platform
import sys
import warnings
from pathlib import Path

SWITCH = "ICRL_COMPILATION_CACHE"  # a folder, or "off"
FOLDER, SECONDS = "JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"  # jax reads them on import
SHORTEST = "0.1"  # seconds of compiling that are worth a file
MOST_BYTES = 2**30  # beyond which the oldest half is dropped


def keep_compiled_programs() -> None:
    """Tell jax, before it is imported, where to keep compiled programs; nothing where that folder cannot be written."""
    folder = cache_folder()
    if folder is None or FOLDER in os.environ or "jax" in sys.modules:
        return
    with contextlib.suppress(OSError, RuntimeError):
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            return
        drop_oldest(folder, MOST_BYTES)
        os.environ[FOLDER] = str(folder)
        os.environ.setdefault(SECONDS, SHORTEST)
        warnings.filterwarnings("ignore", ".*persistent compilation cache.*")  # a full disk ends no work


def cache_folder() -> Path | None:
    """The folder of this kind of processor: ``$ICRL_COMPILATION_CACHE``, or in the user's cache; None: switched off."""
    wanted = os.environ.get(SWITCH, "")
    if wanted.lower() == "off":
        return None
    if wanted:
        return Path(wanted).expanduser() / _processor()
    with contextlib.suppress(RuntimeError):  # a user without a home
        home = Path.home()
        default = home / "Library" / "Caches" if sys.platform == "darwin" else home / ".cache"
        return Path(os.environ.get("XDG_CACHE_HOME") or default) / "icrl" / "compiled" / _processor()
    return None


def drop_oldest(folder: Path, most_bytes: int) -> None:
    """Delete the programs used longest ago, until half of ``most_bytes`` is left, if there is more than that."""
    entries = []
    for path in folder.glob("*-cache"):
        with contextlib.suppress(OSError):  # another process may drop it at the same time
            found = path.stat()
            entries.append((max(found.st_atime, found.st_mtime), found.st_size, path))
    total = sum(size for _, size, _ in entries)
    if total <= most_bytes:
        return
    for _, size, path in sorted(entries):
        with contextlib.suppress(OSError):
            path.unlink()
        total -= size
        if total <= most_bytes // 2:
            return


def _processor() -> str:
    """What code is compiled for: a home that machines share holds a folder for each of their kinds."""
    features = platform.machine() + platform.processor()
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as lines:
        features += next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return hashlib.sha256(features.encode()).hexdigest()[:12]
