"""Errors a user can meet, each a single line and each with the exit code of the command line.

Every message names the field, the value found, what is allowed, and, where there is one, the next step. The exit
codes are 2 (bad input), 3 (damaged data), 4 (locked by another run), 5 (not enough resources) and 6 (incomplete).
"""

import difflib
import math
import operator
from collections.abc import Iterable


class IcrlError(Exception):
    """Base of all errors raised on purpose by this package."""

    exit_code = 1


class InputError(IcrlError, ValueError):
    """A value the caller can correct."""

    exit_code = 2


class DamagedError(IcrlError):
    """Stored data that does not match its own digests or its declared form."""

    exit_code = 3


class LockedError(IcrlError):
    """Another live process is writing to the same output."""

    exit_code = 4


class ResourceError(IcrlError):
    """Not enough memory or disk."""

    exit_code = 5


class IncompleteError(IcrlError):
    """Stored data that is whole as far as it goes, but not all of what was to be stored: the work can go on."""

    exit_code = 6


def require(condition: bool, field: str, found: object, allowed: str, hint: str = "") -> None:
    """Raise ``InputError`` naming ``field``, ``found`` and ``allowed`` unless ``condition`` holds."""
    if not condition:
        raise InputError(f"{field}: got {found!r}, allowed: {allowed}" + (f"; {hint}" if hint else ""))


def require_int(field: str, value: object, low: int, high: int) -> int:
    """Return ``value`` if it is a true integer in [low, high]; bools, floats and strings are refused."""
    allowed = f"an integer in [{low}, {high}]"
    try:
        number = low - 1 if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = low - 1
    require(low <= number <= high, field, value, allowed)
    return number


def require_float(field: str, value: object, low: float, high: float = math.inf, *, open_low: bool = False) -> float:
    """Return ``value`` as a finite float in [low, high], or in (low, high] with ``open_low``."""
    allowed = f"a finite number in {'(' if open_low else '['}{low:g}, {high:g}]"
    is_number = isinstance(value, (int, float)) or (hasattr(value, "__float__") and getattr(value, "ndim", 0) == 0)
    require(is_number and not isinstance(value, bool), field, value, allowed)
    number = float(value)  # type: ignore[arg-type]
    inside = math.isfinite(number) and low <= number <= high and not (open_low and number == low)
    require(inside, field, value, allowed)
    return number


def near_names(name: str, known: Iterable[str]) -> str:
    """Return 'did you mean ...' for the closest known names, or the full list when nothing is close."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"did you mean {', '.join(close)}?" if close else f"known: {', '.join(known)}"
