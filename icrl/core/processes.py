"""Processes that train one run together: that they agree, and that all stop if one of them does.

Process 0 leads: it does what ``icrl run`` does alone, and nobody else writes below the folder of the run. The others
follow: each computes its share of every step (``training/gradients.py``) in a loop that has no line that writes.

Every follower holds a connection to process 0 (``peers.py``). There they show each other what they are about to do,
before jax starts and before every model, and there a process says why it stops. The connection of one that is killed
closes: whoever is left says so in one line and exits.

The service of ``jax.distributed`` is left as soon as the devices know each other, on a CPU: while it is up, the death
of process 0 ends every other one in a trace of C++. Accelerators may ask it for more whenever a program is compiled.
"""

import atexit
import contextlib
import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping

from icrl.core.console import say
from icrl.core.errors import IcrlError, InputError, ResourceError, shortened, shown
from icrl.core.peers import JOINING, Message, Peer, meet
from icrl.core.places import Place, joined

GRACE = 5.0  # seconds in which a process whose computation broke learns who is gone


class Over(Exception):
    """Process 0 has no more work for the others."""


class Team:
    """This process among the others, as long as they train together."""

    def __init__(self, place: Place, peers: Mapping[int, Peer]):
        self.place = place
        self.asked: int | None = None  # the signal by which another process was asked to stop, if this one leads
        self._told = False
        self._left = False
        self._code = 1  # with which this process ends if it fails
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
            with socket.create_server((place.host if place.is_local else "", 0)) as free:
                port = free.getsockname()[1]
            for peer in self._peers.values():
                peer.send(["jax", port])
        else:
            port = int(self._next(0)[1])
        address = joined(place.host, port)
        with contextlib.suppress(AttributeError):  # it would take the signals that are ours
            jax.config.update("jax_enable_preemption_service", False)
        atexit.register(self._do_not_wait)  # runs before what jax has registered
        try:
            jax.distributed.initialize(
                address,
                place.count,
                place.number,
                place.devices,
                "deactivate",
                int(2 * JOINING),
                coordinator_bind_address=address if place.is_local else None,
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
        self._code = 130 if isinstance(error, KeyboardInterrupt) else getattr(error, "exit_code", 1)
        with self._ending:
            self._left = True
            self._tell(self._code, f"process {self.place.number}: {str(error) or type(error).__name__}")
        self._close()

    def _do_not_wait(self) -> None:
        """End a process that has failed, before jax waits for the others to end in good order."""
        import jax

        if jax.distributed.is_initialized():
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(self._code)

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
                self._gone[number].set()
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


# --- For those who may be alone ---


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
      InputError, ResourceError: they do not meet, see ``meet``.
    """
    global _team
    _team = found = Team(place, meet(place, facts))
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


def leave_service() -> None:
    """Leave the service of ``jax.distributed``, together; the devices stay as they are."""
    import jax

    if jax.distributed.is_initialized():
        jax.distributed.shutdown()
