"""Processes that train one run together: how they meet, that they agree, and that all stop if one of them does.

Process 0 leads: it does what ``icrl run`` does alone, and nobody else writes below the folder of the run. The others
follow: each computes its share of every step (``training/gradients.py``) in a loop that has no line that writes.

Every follower holds one TCP connection to process 0. Here they show each other what they are about to do, before jax
starts and before every model, and here a process says why it stops. The kernel closes the connection of one that is
killed, whatever killed it: whoever is left says so in one line and exits.

The service of ``jax.distributed`` is left as soon as the devices know each other, on a CPU: while it is up, the death
of process 0 ends every other one in a trace of C++. Accelerators may ask it for more whenever a program is compiled.
"""

import contextlib
import dataclasses
import json
import os
import queue
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from icrl.core.console import say
from icrl.core.errors import IcrlError, InputError, ResourceError, require, shortened, shown

JOINING = 30.0  # seconds in which process 0 answers
GATHERING = 300.0  # seconds in which all have come: a queue may start them one by one
GRACE = 5.0  # seconds in which a process whose computation broke learns who is gone
KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}  # a machine without power is missed in 30 s
MOST = 4096  # processes
LONGEST = 2**20  # bytes of a message

Message = list[Any]  # its kind, and what belongs to it
KINDS: dict[str, tuple[type, ...]] = {
    "hello": (int, int, dict),  # a follower: its number, how many there are, and what it knows of the run
    "welcome": (),
    "jax": (int,),  # process 0: the port of the service of jax.distributed
    "agree": (str, str),  # what, and its digest
    "asked": (int,),  # a follower: a signal that it has had
    "over": (),  # process 0: all is trained
    "end": (int, str),  # exit code and reason
}


class Over(Exception):
    """Process 0 has no more work for the others."""


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
        return _joined(self.host, self.port)


# --- What the command line and the cluster say ---


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
        asked = ClusterEnv.auto_detect_unset_distributed_params(None, None, None, None, None, int(JOINING))
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


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


# --- A process among the others ---


class Team:
    """This process among the others, as long as they train together."""

    def __init__(self, place: Place, peers: Mapping[int, "_Peer"]):
        self.place = place
        self.asked: int | None = None  # the signal by which another process was asked to stop, if this one leads
        self._told = False
        self._left = False
        self._ending = threading.Lock()  # one thread alone says why this process ends
        self._peers = dict(peers)
        self._heard: dict[int, queue.Queue[Message]] = {number: queue.Queue() for number in peers}
        self._gone = {number: threading.Event() for number in peers}
        for number in peers:
            threading.Thread(target=self._listen, args=(number,), daemon=True, name=f"process {number}").start()

    @property
    def leads(self) -> bool:
        """Whether this is process 0."""
        return self.place.number == 0

    def start_jax(self) -> None:
        """Make the devices of all processes those of ``jax.devices()``; before anything is computed.

        Raises:
          ResourceError: the processes do not find each other.
        """
        import jax

        place = self.place
        if self.leads:
            with socket.create_server((place.host if _is_local(place.host) else "", 0)) as free:
                port = free.getsockname()[1]
            for peer in self._peers.values():
                peer.send(["jax", port])
        else:
            port = int(self._next(0)[1])
        address = _joined(place.host, port)
        with contextlib.suppress(AttributeError):  # it would take the signals that are ours
            jax.config.update("jax_enable_preemption_service", False)
        try:
            jax.distributed.initialize(
                address,
                place.count,
                place.number,
                place.devices,
                "deactivate",
                int(2 * JOINING),
                coordinator_bind_address=address if _is_local(place.host) else None,
            )
            jax.devices()
        except RuntimeError as error:
            line = shortened(" ".join(str(error).split()))
            raise ResourceError(f"processes: jax does not find the other processes at {address}: {line}") from error

    def agree(self, what: str, value: str = "") -> None:
        """Wait until every process is here, with the same ``value``.

        Raises:
          InputError: in process 0, which tells the others, if one of them has another value.
          Over: process 0 has no work.
        """
        if not self.leads:
            self._peers[0].send(["agree", what, value])
            self._next(0)
            return
        for number in self._peers:
            theirs, found = self._next(number)[1:]
            if (theirs, found) != (what, value):
                line = f"process {number}: {theirs} {shown(found)}, of process 0 {what} {shown(value)}"
                raise InputError(f"{line}; data, kind of machine and versions are to be the same")
        for peer in self._peers.values():
            peer.send(["agree", what, value])

    def ask_to_stop(self, number: int) -> None:
        """Hand a signal on to process 0, which saves and then stops all."""
        if not self.leads and not self._told:
            self._told = True
            self._peers[0].send(["asked", number])

    def dismiss(self) -> None:
        """Let the followers go; from now on process 0 is alone."""
        with self._ending:
            self._left = True  # before they leave, who would be missed otherwise
        for peer in self._peers.values():
            peer.send(["over"])
        self.leave()

    def wait_for_the_end(self) -> None:
        """Stay until process 0 has what it needs."""
        with contextlib.suppress(Over):
            while True:
                self._next(0)

    def leave(self) -> None:
        """Part from the others in good order."""
        with self._ending:
            self._left = True
        leave_service()
        self._close()

    def fail(self, error: BaseException) -> None:
        """Tell the others that this process ends of ``error``, unless one of theirs is why it does."""
        if self._left:
            return
        if isinstance(error, Exception) and not isinstance(error, IcrlError):
            time.sleep(GRACE)  # what broke it may be that somebody is gone; whoever listens then ends this process
        code = 130 if isinstance(error, KeyboardInterrupt) else getattr(error, "exit_code", 1)
        with self._ending:
            self._left = True
            self._tell(code, f"process {self.place.number}: {str(error) or type(error).__name__}")
        self._close()

    def _tell(self, code: int, line: str) -> None:
        """Tell the others why all end; process 0, on whose services they rely, sees them off."""
        for peer in self._peers.values():
            peer.send(["end", code, line])
        for each in self._gone.values() if self.leads else ():
            each.wait(GRACE)

    def _close(self) -> None:
        for peer in self._peers.values():
            peer.close()

    def _next(self, number: int) -> Message:
        message = self._heard[number].get()
        if message[0] == "over":
            raise Over
        return message

    def _listen(self, number: int) -> None:
        while message := self._peers[number].receive():
            if message[0] == "end":
                return self._stop(int(message[1]), str(message[2]))
            if message[0] == "asked":
                self.asked = int(message[1])
            else:
                self._heard[number].put(message)
                if message[0] == "over":
                    return None
        self._gone[number].set()
        return self._stop(1, f"process {number} is gone; all stop, --resume goes on from the last checkpoint")

    def _stop(self, code: int, line: str) -> None:
        """End this process at once: its main thread may wait for a process that is gone."""
        with self._ending:
            if not self._left:
                if self.leads:
                    self._tell(code, line)
                say(f"icrl: {' '.join(line.split())}")
                os._exit(code)


class _Peer:
    """One end of a connection: messages as lines of JSON."""

    def __init__(self, connection: socket.socket):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEPALIVE.items():
            if hasattr(socket, name):  # Linux
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        self._connection, self._file = connection, connection.makefile("rb")

    def send(self, message: Message) -> None:
        """Send it, or nothing if nobody is there: whoever listens hears of that."""
        with contextlib.suppress(OSError):
            self._connection.sendall(json.dumps(message).encode() + b"\n")

    def receive(self, seconds: float | None = None) -> Message | None:
        """The next message; None: the other end is closed, silent for so many seconds, or none of ours."""
        try:
            self._connection.settimeout(seconds)
            found = json.loads(self._file.readline(LONGEST))
            self._connection.settimeout(None)
        except (OSError, ValueError, RecursionError):
            return None
        kinds = KINDS.get(found[0]) if isinstance(found, list) and found and isinstance(found[0], str) else None
        fits = kinds is not None and list(map(type, found[1:])) == list(kinds)
        return found if fits else None

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)  # who listens hears of it
        self._file.close()
        self._connection.close()


# --- How they meet ---


_team: Team | None = None  # that this process is in; None: it is alone


def agree(what: str, value: Callable[[], str] = lambda: "") -> None:
    """``Team.agree`` where there are others."""
    if _team is not None:
        _team.agree(what, value())


def ask_to_stop(number: int) -> None:
    """``Team.ask_to_stop`` where there are others."""
    if _team is not None:
        _team.ask_to_stop(number)


def asked_to_stop() -> int | None:
    """The signal that another process has had and handed on, if any."""
    return None if _team is None else _team.asked


def dismiss() -> None:
    """``Team.dismiss`` where there are others: training is done."""
    global _team
    if _team is not None:
        _team.dismiss()
        _team = None


@contextlib.contextmanager
def together(place: Place, facts: Mapping[str, object]) -> Iterator[Team]:
    """The team of a block, in which all processes work on the run of which all must know the same ``facts``.

    What ends the block in one process ends all of them.

    Raises:
      InputError: other facts, another number of processes, two of the same number, an address that cannot be used.
      ResourceError: process 0, or another one, does not come.
    """
    global _team
    _team = found = Team(place, _lead(place, facts) if place.number == 0 else _follow(place, facts))
    try:
        yield found
        if found.leads:
            dismiss()
        else:
            found.leave()
    except BaseException as error:
        found.fail(error)
        raise
    finally:
        _team = None


def _lead(place: Place, facts: Mapping[str, object]) -> dict[int, _Peer]:
    """The connections of all others, each of which knows the same."""
    peers: dict[int, _Peer] = {}
    until = time.monotonic() + GATHERING
    with _listening(place) as server:
        while len(peers) < place.count - 1:
            server.settimeout(max(until - time.monotonic(), 0.01))
            try:
                peer = _Peer(server.accept()[0])
            except TimeoutError as error:
                missing = sorted(set(range(1, place.count)) - peers.keys())
                line = f"processes: {len(missing)} of {place.count} have not come to {place.address} in "
                line += f"{GATHERING:.0f} s: {', '.join(map(str, missing[:10]))}"
                _refuse(peers.values(), ResourceError.exit_code, line)
                raise ResourceError(line) from error
            hello = peer.receive(GRACE)
            if hello is None or hello[0] != "hello":  # somebody else
                peer.close()
                continue
            number, count, known = hello[1:]
            if line := _why_not(place, facts, number, count, known, peers):
                _refuse((*peers.values(), peer), InputError.exit_code, line)
                raise InputError(line)
            peers[number] = peer
            peer.send(["welcome"])
    return peers


def _follow(place: Place, facts: Mapping[str, object]) -> dict[int, _Peer]:
    """The connection to process 0."""
    until, reason = time.monotonic() + JOINING, "it is silent"
    silent = f"coordinator: {place.address} has not answered in {JOINING:.0f} s; process 0 is to run there"
    while True:
        try:
            peer = _Peer(socket.create_connection((place.host, place.port), max(until - time.monotonic(), 0.01)))
            break
        except (OSError, UnicodeError) as error:  # a name of a host may be none
            reason = getattr(error, "strerror", None) or str(error)
            if time.monotonic() >= until:
                raise ResourceError(f"{silent} ({reason})") from error
            time.sleep(0.2)
    peer.send(["hello", place.number, place.count, dict(facts)])
    answer = peer.receive(max(until - time.monotonic(), GRACE))
    if answer is None or answer[0] == "end":
        peer.close()
    if answer is None:
        raise ResourceError(f"{silent} ({reason})")
    if answer[0] == "end":
        raise InputError(str(answer[2]))
    return {0: peer}


def _listening(place: Place) -> socket.socket:
    """Where process 0 is met: at its own address only if that is of this machine alone, else at all of them."""
    try:
        if _is_local(place.host):
            return socket.create_server((place.host, place.port))
        if socket.has_dualstack_ipv6():
            return socket.create_server(("", place.port), family=socket.AF_INET6, dualstack_ipv6=True)
        return socket.create_server(("", place.port))
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"coordinator: process 0 cannot listen at {place.address}: {reason}; use another port"
        ) from error


def _is_local(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def _why_not(
    place: Place,
    facts: Mapping[str, object],
    number: int,
    count: int,
    known: dict[str, object],
    peers: Mapping[int, Any],
) -> str:
    """Why a process that says hello cannot take part; empty if it can."""
    if count != place.count:
        return f"process {number}: knows of {count} processes, process 0 of {place.count}"
    if not 0 < number < count or number in peers:
        return f"process: got {number} twice, allowed: each of 0 to {count - 1} once"
    ours = json.loads(json.dumps(facts))
    differ = [name for name in {**ours, **known} if ours.get(name) != known.get(name)]
    if not differ:
        return ""
    told = "; ".join(f"{name} {shown(known.get(name))}, not {shown(ours.get(name))}" for name in differ[:3])
    return f"process {number}: differs from process 0: {shortened(told)}; all are to be given the same"


def _refuse(peers: Iterable[_Peer], code: int, line: str) -> None:
    for peer in peers:
        peer.send(["end", code, line])
        peer.close()


def leave_service() -> None:
    """Leave the service of ``jax.distributed``, together; the devices stay as they are."""
    import jax

    if jax.distributed.is_initialized():
        jax.distributed.shutdown()
