"""What this machine has left of memory and disk, and the refusal of work that would not fit."""

import os
import resource
import shutil
from pathlib import Path
from typing import NamedTuple

import jax

from icrl.core.errors import ResourceError

SHARE = 0.8  # of what is free that work may need


class Need(NamedTuple):
    """Bytes that a part of the work takes at least, and the settings that lower them."""

    what: str
    nbytes: float
    settings: str


def free_memory() -> float:
    """Bytes that this process can still have where arrays live: of the accelerator, or of the host and its limits."""
    device = jax.local_devices()[0]
    if device.platform != "cpu":
        stats = device.memory_stats() or {}
        if "bytes_limit" in stats:
            return float(stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    limits = [_available(), _of_cgroup()]
    soft = resource.getrlimit(resource.RLIMIT_AS)[0]
    if soft != resource.RLIM_INFINITY:
        limits.append(float(soft))
    return min(limits)


def require_memory(*needs: Need) -> None:
    """Raise ``ResourceError`` when the largest of ``needs``, of parts that follow one another, is not free."""
    _require(max(needs, key=lambda need: need.nbytes), free_memory(), "memory")


def require_disk(folder: Path, need: Need) -> None:
    """Raise ``ResourceError`` when ``need`` does not fit on the disk that ``folder`` is or will be on."""
    place = next(each for each in (folder, *Path(os.path.abspath(folder)).parents) if each.exists())
    _require(need, float(shutil.disk_usage(place).free), f"the disk of {folder}")


def _require(need: Need, free: float, where: str) -> None:
    if need.nbytes > SHARE * free:
        raise ResourceError(
            f"{need.what} needs at least {in_words(need.nbytes)}, {where} has {in_words(free)} free, of which "
            f"{SHARE:.0%} may be used; lower {need.settings}"
        )


def in_words(nbytes: float) -> str:
    """Bytes in the largest unit that leaves a number above 1, such as 3.2 GB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if nbytes < 1000:
            return f"{nbytes:.3g} {unit}"
        nbytes /= 1000
    return f"{nbytes:,.4g} TB"


def _available() -> float:
    """Bytes that the system can give without swapping; without limit where it does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return 1024.0 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return float("inf")


def _of_cgroup() -> float:
    """Bytes that a container's limit leaves."""
    try:
        root = Path("/sys/fs/cgroup")
        return float(int((root / "memory.max").read_text()) - int((root / "memory.current").read_text()))
    except (OSError, ValueError):  # no limit is the word "max"
        return float("inf")
