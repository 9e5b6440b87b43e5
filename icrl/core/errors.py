"""Errors a user can meet, each a single line and each with the exit code of the command line.

Every message names the field, the value found, what is allowed, and, where there is one, the next step. The exit
codes are 2 (bad input), 3 (damaged data), 4 (locked by another run), 5 (not enough resources) and 6 (incomplete).
"""

import difflib
import math
import operator
import typing
from collections.abc import Iterable

SHOWN = 300  # characters of a value in a message
MANY_NAMES = 20  # of a list in a message


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
        raise InputError(f"{field}: got {shown(found)}, allowed: {allowed}" + (f"; {hint}" if hint else ""))


def shown(value: object) -> str:
    """``repr`` on one line, the middle of a long one left out; an integer can have too many digits for it."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:
        return f"a very large {type(value).__name__}"
    return shortened(text)


def shortened(text: str) -> str:
    """``text`` without the middle of a long one."""
    return text if len(text) <= SHOWN else f"{text[: SHOWN // 2]} ... {text[-SHOWN // 4 :]}"


def require_int(field: str, value: object, low: int, high: int) -> int:
    """Return ``value`` if it is a true integer in [low, high]; bools, floats and strings are refused."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or not low <= number <= high:
        require(False, field, value, int_range(low, high))
    return typing.cast(int, number)


def require_float(
    field: str,
    value: object,
    low: float,
    high: float = math.inf,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> float:
    """Return ``value`` as a finite float in [low, high], without the end that is open."""
    allowed = float_range(low, high, open_low=open_low, open_high=open_high)
    is_number = isinstance(value, (int, float)) or (hasattr(value, "__float__") and getattr(value, "ndim", 0) == 0)
    is_bool = isinstance(value, bool) or getattr(getattr(value, "dtype", None), "kind", "") == "b"
    require(is_number and not is_bool, field, value, allowed)
    try:
        number = float(value)  # type: ignore[arg-type]
    except (OverflowError, TypeError, ValueError):  # an integer beyond floats, an array of text
        number = math.nan
    inside = math.isfinite(number) and low <= number <= high
    inside = inside and not (open_low and number == low) and not (open_high and number == high)
    require(inside, field, value, allowed)
    return number


def int_range(low: object, high: object) -> str:
    """'an integer in [low, high]'."""
    return f"an integer in [{low}, {high}]"


def float_range(low: object, high: object, *, open_low: bool = False, open_high: bool = False) -> str:
    """'a finite number in [low, high]', with round brackets at open ends."""
    left, right = "(" if open_low else "[", ")" if open_high else "]"
    ends = [end if isinstance(end, str) else f"{end:g}" for end in (low, high)]
    return f"a finite number in {left}{ends[0]}, {ends[1]}{right}"


def near_names(name: str, known: Iterable[str]) -> str:
    """Return 'did you mean ...' for the closest known names, or the first of all names when nothing is close."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return f"did you mean {', '.join(close)}?"
    more = ", ..." if len(known) > MANY_NAMES else ""
    return f"known: {', '.join(known[:MANY_NAMES])}{more}"
