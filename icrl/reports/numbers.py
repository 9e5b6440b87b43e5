"""How numbers of a results document are written for people."""

import math

from icrl.reports.forms import Value

NO_NUMBER = "-"


def short_number(value: float, digits: int = 3) -> str:
    """``digits`` figures, more only for the whole part: 0, 0.0120, 24.1, 1,234."""
    if value == 0:
        return "0"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    return f"{value:.{digits - 1}e}" if places > 8 else f"{value:,.{max(places, 0)}f}"


def format_value(value: Value, digits: int = 3) -> str:
    """A mean with its interval: ``24.1 [23.0, 25.2]``."""
    return "{} [{}, {}]".format(*(short_number(value[key], digits) for key in ("mean", "low", "high")))


def format_cell(cell: str | float | Value) -> str:
    """A cell of a table: text as it is, whole numbers in full, others with three figures."""
    if isinstance(cell, dict):
        return format_value(cell)
    if isinstance(cell, float):
        return short_number(cell)
    return cell if isinstance(cell, str) else f"{cell:,}"


def format_ratio(ratio: float | None) -> str:
    """A ratio to the ideal agent, or a dash where there is none."""
    return NO_NUMBER if ratio is None else f"{ratio:.3f}"
