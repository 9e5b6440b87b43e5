"""Standard streams that may be missing, closed or full: what is said there never decides whether work is done."""

import contextlib
import os
import sys
from collections.abc import Iterator


def open_missing() -> None:
    """Let a stream that was closed before Python started (``>&-``) lead nowhere, so that printing works."""
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115


def say(text: str) -> None:
    """Print a line on stderr, or nowhere if that cannot be written."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def stdout_may_fail() -> Iterator[None]:
    """What the block prints informs only: a full or closed stdout does not end the work."""
    try:
        yield
        sys.stdout.flush()
    except OSError:
        give_up_stdout()
    except ValueError:
        if not sys.stdout.closed:
            raise


def give_up_stdout() -> None:
    """Lead stdout nowhere after it failed: what is left in its buffer would fail again when Python ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
