"""Arrays that a gymnasium user hands over, checked on the host."""

from typing import Any

import numpy as np

from icrl.core.errors import InputError, require
from icrl.core.types import EnvSpec

_KINDS = {"iu": "integer", "f": "float", "fiu": "float or integer", "b": "boolean"}  # NumPy's dtype.kind, in words


def checked_array(field: str, value: Any, kinds: str, shape: tuple[int, ...]) -> Any:
    """``value`` as an array of ``shape`` whose dtype is of one of NumPy's ``kinds``, else ``InputError``."""
    try:
        array = np.asarray(value)
    except ValueError:  # a ragged list
        array = np.empty((), object)
    fits = array.dtype.kind in kinds and array.shape == shape
    found = value if array.ndim == 0 else f"{array.dtype} of shape {array.shape}"
    require(fits, field, found, f"{_KINDS[kinds]} of shape {shape}")
    return array


def checked_finite(field: str, value: Any, shape: tuple[int, ...]) -> Any:
    """``value`` as finite float32 of ``shape``, else ``InputError``."""
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite there
        array = checked_array(field, value, "fiu", shape).astype(np.float32)
    bad = ~np.isfinite(array)
    if bad.any():
        raise InputError(f"{field}: got {array[bad][0]} in {int(bad.sum())} of {bad.size} places, allowed: finite")
    return array


def checked_actions(field: str, value: Any, shape: tuple[int, ...], spec: EnvSpec, start: int = 0) -> Any:
    """``value`` of ``shape``, counted from ``start``, as int32 in 0..K-1, else ``InputError``: jax would clamp it.

    In a box of actions ``value`` [*shape, A] as finite float32; the environment clips it.
    """
    if spec.action_box is not None:
        return checked_finite(field, value, (*shape, *spec.action_shape))
    num_actions = spec.num_actions
    array = checked_array(field, value, "iu", shape)
    bad = (array < start) | (array >= start + num_actions)
    if bad.any():
        raise InputError(f"{field}: got {array[bad][0]}, allowed: integers in [{start}, {start + num_actions - 1}]")
    return (array - start).astype(np.int32)
