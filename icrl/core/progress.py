"""A progress bar with rate and time left on a terminal; a plain line now and then elsewhere."""

import importlib.util
import sys
import time
from types import TracebackType
from typing import Self

from icrl.core.console import say

LINES_WITHOUT_TERMINAL = 10  # lines written over the whole of a job when stderr is a file or a pipe


def _shows_widgets() -> bool:
    """Whether this is a notebook in which rich can draw its bars."""
    from rich.console import Console

    return Console().is_jupyter and importlib.util.find_spec("ipywidgets") is not None


class Progress:
    """``with Progress("training", total=4000, unit="steps") as bar: bar.advance(10, note="loss 1.2")``.

    Writes to stderr, so that what a command prints on stdout can be piped. ``done`` says where a resumed job starts.
    A job without a label is part of another one, which shows: it only counts.
    """

    def __init__(self, label: str, total: int, unit: str, done: int = 0):
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self.label, self.total, self.unit, self.done, self.first = label, total, unit, done, done
        self.started = time.monotonic()
        self._next_line = done + max(1, total // LINES_WITHOUT_TERMINAL)
        self._bar = None
        if label and (sys.stderr.isatty() or _shows_widgets()):
            columns = (
                TextColumn("{task.description}"),
                BarColumn(bar_width=30),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
            )
            self._bar = RichProgress(*columns, console=Console(stderr=True), transient=False)
            self._task = self._bar.add_task(label, total=total, completed=done, rate="", note="")

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    @property
    def rate(self) -> float:
        """Units a second since this process started on the job."""
        return (self.done - self.first) / max(time.monotonic() - self.started, 1e-9)

    def advance(self, amount: int, note: str = "") -> None:
        """Count ``amount`` units as done and show ``note``."""
        self.done += amount
        if self._bar:
            self._bar.update(self._task, completed=self.done, rate=f"{self.rate:,.1f} {self.unit}/s", note=note)
        elif self.label and (self.done >= self._next_line or self.done == self.total):
            self._next_line = self.done + max(1, self.total // LINES_WITHOUT_TERMINAL)
            left = (self.total - self.done) / max(self.rate, 1e-9)
            line = f"{self.label}: {self.done}/{self.total} {self.unit}, {self.rate:,.1f}/s, {left:,.0f} s left"
            say(f"{line}  {note}".rstrip())
