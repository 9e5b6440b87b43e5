"""Numbers that callers hand to plain NumPy functions: float64, or an ``InputError`` that names the argument."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from icrl.core.errors import InputError, require, shown


def finite_floats(field: str, x: ArrayLike) -> NDArray[Any]:
    """``x`` as an array of finite float64, of any shape."""
    try:
        values = np.asarray(x, dtype=np.float64)
    except (OverflowError, TypeError, ValueError) as error:  # text, objects, huge integers, rows of different lengths
        raise InputError(f"{field}: got {shown(x)}, allowed: an array of numbers") from error
    bad = int(np.size(values) - np.count_nonzero(np.isfinite(values)))
    require(bad == 0, field, f"{bad} non-finite of {values.size} values", "finite numbers")
    return values
