"""What Orbax and its threads say beside an error that they also raise, kept from the user's terminal."""

import functools
import logging
import sys
import threading
import warnings
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

_CHATTER = ("absl", "asyncio")  # log tracebacks of errors that are raised as well
_THEIRS = ("orbax", "OCDBT", "async_serialize_from_host")  # words of a complaint about what Orbax left behind
_UNAWAITED = r"coroutine 'async_serialize_from_host"  # begins a warning about the same


class Quiet:
    """A block in which errors are raised, and nothing else is said of them.

    Threads, tasks and coroutines of a save that has failed come to their end when they are collected, some of them
    long after the block; after ``stay`` those of Orbax stay unheard.
    """

    def __init__(self) -> None:
        self._stays = False
        self._levels: dict[logging.Logger, int] = {}
        self._hook: Callable[..., Any] = sys.unraisablehook

    def stay(self) -> None:
        """From now on and after the block nothing of what Orbax left behind is heard."""
        self._stays = True
        logging.getLogger("asyncio").addFilter(_is_not_theirs)  # once, however often it is added
        warnings.filterwarnings("ignore", _UNAWAITED, RuntimeWarning)

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
        if not self._stays:
            sys.unraisablehook = self._hook


def _is_not_theirs(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    return not any(word in message for word in _THEIRS)


def _all_but_closed_loops(hook: Callable[..., Any], found: Any) -> None:
    """What ``hook`` does, unless a thread that is none of Python's came back to a closed event loop."""
    is_foreign = threading.current_thread().name.startswith("Dummy-")
    if not (is_foreign and str(found.exc_value) == "Event loop is closed"):
        hook(found)
