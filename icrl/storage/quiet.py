"""What Orbax and its threads say beside an error that they also raise, kept from the user's terminal."""

import functools
import logging
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

_CHATTER = ("absl", "asyncio")  # log tracebacks of errors that are raised as well


class Quiet:
    """A block in which errors are raised, and nothing else is said of them.

    Threads of Orbax come back to the event loop of a save that has failed when it is closed, some of them after the
    block; with ``stays`` they stay unheard.
    """

    def __init__(self) -> None:
        self.stays = False
        self._levels: dict[logging.Logger, int] = {}
        self._hook: Callable[..., Any] = sys.unraisablehook

    def __enter__(self) -> Self:
        self._levels = {logging.getLogger(name): logging.getLogger(name).level for name in _CHATTER}
        for each in self._levels:
            each.setLevel(logging.CRITICAL)
        self._hook = sys.unraisablehook
        if getattr(self._hook, "func", None) is not _all_but_closed_loops:
            sys.unraisablehook = functools.partial(_all_but_closed_loops, self._hook)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each, level in self._levels.items():
            each.setLevel(level)
        if not self.stays:
            sys.unraisablehook = self._hook


def _all_but_closed_loops(hook: Callable[..., Any], found: Any) -> None:
    """What ``hook`` does, unless a thread that is none of Python's came back to a closed event loop."""
    is_foreign = threading.current_thread().name.startswith("Dummy-")
    if not (is_foreign and str(found.exc_value) == "Event loop is closed"):
        hook(found)
