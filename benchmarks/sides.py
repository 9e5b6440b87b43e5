"""Two processes that compute in turns: ours and a peer's, as their users would run them.

In one process the threads and the memory of the one would slow the other down; one after the other, whatever else the
machine does would fall on one of them.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from peers.turns import ANSWERS

HERE = Path(__file__).parent


class Failed(Exception):
    """Why a side gave no answer, in one line."""


class Side:
    """One process that answers ``peers/turns.py``'s way."""

    def __init__(self, python: str, *words: str):
        read, write = os.pipe()
        environment = {**os.environ, ANSWERS: str(write), "XLA_PYTHON_CLIENT_MEM_FRACTION": ".45"}  # two share a GPU
        if python != sys.executable:
            environment.pop("PYTHONPATH", None)  # it leads to our packages
        self.name, self.errors = words[0], tempfile.TemporaryFile("w+")  # noqa: SIM115  closed by ``running``
        pipes = {"stdin": subprocess.PIPE, "stdout": self.errors, "stderr": self.errors, "pass_fds": (write,)}
        command = [python, str(HERE / words[0]), *words[1:]]
        self.process = subprocess.Popen(command, text=True, env=environment, **pipes)
        os.close(write)
        self.answers = os.fdopen(read)

    def told(self) -> dict[str, Any]:
        """The next line of it; ``Failed`` if it has ended."""
        line = self.answers.readline()
        if not line:
            self.errors.seek(0)
            said = [each.strip() for each in self.errors if each.strip()]
            raise Failed(f"{self.name}: {said[-1] if said else 'ended without a word'}")
        return json.loads(line)

    def turn(self) -> dict[str, Any]:
        """Seconds of a call, of the clock and of all its threads, and its largest memory so far."""
        with suppress(BrokenPipeError):  # ``told`` says why
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        return self.told()


@contextmanager
def running(python: str, *words: str) -> Iterator[Side]:
    """A side that ends with the block."""
    side = Side(python, *words)
    try:
        yield side
    finally:
        side.process.kill()
        side.process.wait()
        for file in (side.answers, side.errors, side.process.stdin):
            with suppress(BrokenPipeError):
                file.close()


@contextmanager
def limited(seconds: float, sides: list[Side]) -> Iterator[None]:
    """Whatever is in ``sides`` is killed after so many seconds, of which ``Failed`` tells."""
    late, done = threading.Event(), threading.Event()

    def stop() -> None:
        if not done.wait(seconds):
            late.set()
        while not done.wait(0.1):  # one may just be starting
            for side in list(sides):
                side.process.kill()

    watch = threading.Thread(target=stop, daemon=True)
    watch.start()
    try:
        yield
    except Failed:
        if late.is_set():
            raise Failed(f"took longer than {seconds:.0f} seconds") from None
        raise
    finally:
        done.set()
        watch.join()


def in_turns(ours: tuple[str, ...], peer: tuple[str, ...] | None, tells: dict, turns: int, limit: float) -> list[dict]:
    """What each side tells, with its turns.

    Args:
      ours: interpreter, program and the words in front of the settings.
      peer: the same of the other one; None: ours is alone.
      tells: settings by side, "ours" and "peer"; what ours tells of itself is added to the peer's.
      turns: of each.
      limit: seconds of all.

    Raises:
      Failed: a side ended early, or the limit was not enough.
    """
    sides: list[Side] = []
    with ExitStack() as stack, limited(limit, sides):
        sides.append(stack.enter_context(running(*ours, json.dumps(tells["ours"]))))
        found = [sides[0].told()]
        if peer is not None:
            words = json.dumps({**tells["peer"], **found[0].get("tells", {})})
            sides.append(stack.enter_context(running(*peer, words)))
            found.append(sides[1].told())
        measured = [[side.turn() for side in sides] for _ in range(turns)]
    columns = zip(*measured, strict=True)
    return [{**told, "turns": list(column)} for told, column in zip(found, columns, strict=True)]
