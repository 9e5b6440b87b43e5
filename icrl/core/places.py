"""Which of several processes this one is: as the command line says, or the cluster that started it."""

import dataclasses
import re

from icrl.core.errors import InputError, require, shown

MOST = 4096  # processes
ASKING = 30  # seconds in which a cluster answers


@dataclasses.dataclass(frozen=True)
class Place:
    """Which of the processes this one is, and where process 0 is met."""

    number: int  # K, from 0
    count: int  # N
    host: str
    port: int
    devices: tuple[int, ...] | None = None  # of this machine that are its own; None: all

    @property
    def address(self) -> str:
        """Of process 0, as it was given."""
        return joined(self.host, self.port)

    @property
    def is_local(self) -> bool:
        """Whether only processes of this machine can be met there."""
        return self.host in ("localhost", "::1") or self.host.startswith("127.")


def place_of(coordinator: str | None, process: str | None, processes: str | None) -> Place | None:
    """The place that three words of the command line mean; None: this process is alone.

    Raises:
      InputError: one of them without the others, numbers that do not fit, ``auto`` where no cluster is known.
    """
    words = {"coordinator": coordinator, "process": process, "processes": processes}
    given = {name: text for name, text in words.items() if text is not None}
    if not given:
        return None
    if processes == "auto":
        for name in ("coordinator", "process"):
            require(name not in given, name, given.get(name), "none with --processes auto: SLURM or Open MPI says it")
        place = _place_in_cluster()
    else:
        for name in words:
            require(name in given, name, None, f"a value with --{next(iter(given))}", "or --processes auto")
        count = _whole("processes", given["processes"], 1, MOST)
        place = Place(_whole("process", given["process"], 0, count - 1), count, *_address(given["coordinator"]))
    return None if place.count == 1 else place


def _place_in_cluster() -> Place:
    """What SLURM, Open MPI or another launcher that jax knows has told this process."""
    from jax._src.clusters import ClusterEnv  # what jax.distributed.initialize asks; it has no public name

    try:
        asked = ClusterEnv.auto_detect_unset_distributed_params(None, None, None, None, None, ASKING)
    except (KeyError, ValueError, RuntimeError, OSError) as error:
        raise InputError(f"processes: got 'auto', and the cluster does not say which: {shown(str(error))}") from error
    address, count, number, devices = asked
    hint = "neither SLURM nor Open MPI started this process"
    require(None not in (address, count, number), "processes", "auto", "a number with --coordinator, --process", hint)
    assert address is not None and count is not None and number is not None
    return Place(number, count, *_address(address), None if devices is None else tuple(devices))


def _whole(name: str, text: str, low: int, high: int) -> int:
    fits = re.fullmatch(r"\d{1,9}", text, re.ASCII) is not None and low <= int(text) <= high
    require(fits, name, text, f"an integer in [{low}, {high}]")
    return int(text)


def _address(text: str) -> tuple[str, int]:
    found = re.fullmatch(r"([\w.%-]{1,253}|\[[\w:.%]+\]):(\d{1,5})", text, re.ASCII)
    fits = found is not None and 0 < int(found[2]) < 2**16
    require(fits, "coordinator", text, "HOST:PORT where process 0 is met, for instance node001:7000")
    assert found is not None
    return found[1].strip("[]"), int(found[2])


def joined(host: str, port: int) -> str:
    """HOST:PORT, with brackets around numbers with colons."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
