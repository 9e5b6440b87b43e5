"""The spaces of a Minari dataset, read from its metadata as numbers; no object of Minari or gymnasium is made."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from icrl.core.errors import InputError, require, require_int, shown

NUMERIC = ("Discrete", "MultiDiscrete", "MultiBinary", "Box")


class Space(NamedTuple):
    """Observations of one form."""

    stored_shape: tuple[int, ...]  # as they stand in the file
    shape: tuple[int, ...]  # as they are kept: a single number has shape (1,)
    low: float
    high: float
    nvec: tuple[int, ...]  # how many values each scalar has; (): real numbers
    start: np.ndarray  # the least value of each scalar, which is subtracted


def observation_space(text: Any, name: str) -> Space:
    """The form of the observations of the dataset ``name``; ``InputError`` for anything but numbers."""
    field = f"{name}: observation_space"
    told = _parsed(text, field)
    kind = told.get("type")
    require(kind in NUMERIC, field, kind, f"{', '.join(NUMERIC)}: arrays of numbers")
    with _read_as_space(field, told):
        return _space(kind, told)


def _space(kind: Any, told: dict[str, Any]) -> Space:
    if kind == "Box":
        shape = tuple(int(length) for length in told["shape"])
        low, high = (float(end(np.asarray(told[at], np.float64))) for at, end in (("low", np.min), ("high", np.max)))
        return Space(shape, shape or (1,), low, high, (), np.zeros(1))
    if kind == "Discrete":
        start = np.array([int(told.get("start", 0))])
        return Space((), (1,), 0.0, float(told["n"] - 1), (int(told["n"]),), start)
    if kind == "MultiBinary":
        shape = tuple(np.atleast_1d(told["n"]).tolist())
        return Space(shape, shape, 0.0, 1.0, (2,) * int(np.prod(shape)), np.zeros(1, int))
    nvec = np.asarray(told["nvec"], np.int64)
    start = np.asarray(told.get("start", np.zeros_like(nvec)))
    return Space(nvec.shape, nvec.shape, 0.0, float(nvec.max() - 1), tuple(nvec.reshape(-1).tolist()), start)


def action_count(text: Any, name: str) -> tuple[int, int]:
    """(K, the number of the first action) of the dataset ``name``; ``InputError`` unless its actions are Discrete."""
    told = _parsed(text, f"{name}: action_space")
    hint = "continuous and composed actions cannot be predicted here"
    require(told.get("type") == "Discrete", f"{name}: action_space", told.get("type"), "Discrete", hint)
    with _read_as_space(f"{name}: action_space", told):
        return require_int("n", told["n"], 1, 65536), int(told.get("start", 0))


@contextlib.contextmanager
def _read_as_space(field: str, told: dict[str, Any]) -> Iterator[None]:
    """Turn what a malformed space raises into an ``InputError`` that names it."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{field}: got {shown(told)}, allowed: the space as Minari writes it") from error


def _parsed(text: Any, field: str) -> dict[str, Any]:
    try:
        told = json.loads(text)
        assert isinstance(told, dict)
    except (TypeError, ValueError, AssertionError):
        hint = "a dataset that names its environment alone is not read: environments are not made from data"
        require(False, field, text, "the space as Minari writes it", hint)
    return told
