"""How the processes of a run meet: each of the others says hello to process 0 over a connection that stays.

The kernel closes the connection of a process that dies, whatever killed it. Messages are lines of JSON, unencrypted.
"""

import contextlib
import json
import socket
import time
from collections.abc import Iterable, Mapping
from typing import Any

from icrl.core.errors import InputError, ResourceError, shortened, shown
from icrl.core.places import Place

JOINING = 30.0  # seconds in which process 0 answers
GATHERING = 300.0  # seconds in which all have come: a queue may start them one by one
SILENCE = 5.0  # seconds in which one that has come says who it is
KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}  # a machine without power is missed in 30 s
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


class Peer:
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


def meet(place: Place, facts: Mapping[str, object]) -> dict[int, Peer]:
    """The connections to all others from process 0, to process 0 from any other, by the number of the process.

    Args:
      place: of this process.
      facts: what all must know alike of the run, as JSON.

    Raises:
      InputError: other facts, another number of processes, two of the same number, an address that cannot be used.
      ResourceError: process 0, or another one, does not come.
    """
    return _lead(place, facts) if place.number == 0 else _follow(place, facts)


def _lead(place: Place, facts: Mapping[str, object]) -> dict[int, Peer]:
    """The connections of all others, each of which knows the same."""
    peers: dict[int, Peer] = {}
    until = time.monotonic() + GATHERING
    with _listening(place) as server:
        while len(peers) < place.count - 1:
            server.settimeout(max(until - time.monotonic(), 0.01))
            try:
                peer = Peer(server.accept()[0])
            except TimeoutError as error:
                missing = sorted(set(range(1, place.count)) - peers.keys())
                line = f"processes: {len(missing)} of {place.count} have not come to {place.address} in "
                line += f"{GATHERING:.0f} s: {', '.join(map(str, missing[:10]))}"
                _refuse(peers.values(), ResourceError.exit_code, line)
                raise ResourceError(line) from error
            hello = peer.receive(SILENCE)
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


def _follow(place: Place, facts: Mapping[str, object]) -> dict[int, Peer]:
    """The connection to process 0."""
    until, reason = time.monotonic() + JOINING, "it is silent"
    silent = f"coordinator: {place.address} has not answered in {JOINING:.0f} s; process 0 is to run there"
    while True:
        try:
            peer = Peer(socket.create_connection((place.host, place.port), max(until - time.monotonic(), 0.01)))
            break
        except (OSError, UnicodeError) as error:  # a name of a host may be none
            reason = getattr(error, "strerror", None) or str(error)
            if time.monotonic() >= until:
                raise ResourceError(f"{silent} ({reason})") from error
            time.sleep(0.2)
    peer.send(["hello", place.number, place.count, dict(facts)])
    answer = peer.receive(max(until - time.monotonic(), SILENCE))
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
        if place.is_local:
            return socket.create_server((place.host, place.port))
        if socket.has_dualstack_ipv6():
            return socket.create_server(("", place.port), family=socket.AF_INET6, dualstack_ipv6=True)
        return socket.create_server(("", place.port))
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"coordinator: process 0 cannot listen at {place.address}: {reason}; use another port"
        ) from error


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


def _refuse(peers: Iterable[Peer], code: int, line: str) -> None:
    for peer in peers:
        peer.send(["end", code, line])
        peer.close()
