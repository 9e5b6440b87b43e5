"""What stops a training: numbers that are not finite, and signals, which are heeded behind the step under way."""

import signal
from types import FrameType, TracebackType
from typing import Any, Self

from icrl.core.errors import IcrlError


class Interrupted(IcrlError):
    """Stopped by a signal after saving; ``exit_code`` is 128 + the signal's number."""

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.exit_code = 128 + number


class Diverged(IcrlError):
    """The loss or a parameter is not finite any more."""


class StopRequest:
    """Turns the first SIGINT or SIGTERM into a flag; a second one acts as it would have without us."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._previous[number] = signal.signal(number, self._remember)
            except ValueError:  # not the main thread: signals stay with whoever owns it
                return self
        return self

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        signal.signal(number, self._previous[number])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
