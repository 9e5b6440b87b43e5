"""An array of many records in one ``.npy`` file, in the smallest form that broadcasts and casts back to what it was.

An axis along which it never varies has length 1, whole numbers take as few bytes as they need. What comes back is
equal in dtype, shape and every bit; a dtype for which that cannot be promised is refused.
"""

import io
import math
import os
import re
from pathlib import Path

import numpy as np

from icrl.core.errors import DamagedError
from icrl.storage.paths import show
from icrl.storage.publish import write_new

KINDS = "biufcmMSU"  # of dtypes that can be stored
SMALL = 1024  # bytes of an array that stays in memory: what is constant in a shard
_SPELLED = re.compile(r"[<>|]?[A-Za-z]+\d*(\[\w+\])?")
_LARGEST = 2**62  # bytes of an array, as read: sums and products of such sizes stay whole numbers of 64 bits


def spelled(dtype: np.dtype) -> str | None:
    """The text that means ``dtype``, byte order and unit included; None for one that cannot be stored."""
    for text in (dtype.name, dtype.str):
        if dtype.kind in KINDS and dtype.itemsize and _SPELLED.fullmatch(text) and _read(text) == dtype:
            return text
    return None


def dtype_of(text: str) -> np.dtype | None:
    """The dtype that ``spelled`` gave this text for; None for any other text."""
    dtype = _read(text) if _SPELLED.fullmatch(text) else None
    return dtype if dtype is not None and spelled(dtype) is not None else None


def _read(text: str) -> np.dtype | None:
    try:
        return np.dtype(text)
    except (TypeError, ValueError):
        return None


def save(path: Path, array: np.ndarray) -> None:
    """Write ``array``, C-contiguous, as ``np.save`` would, but so that a full disk is known by its error number.

    (``np.save`` does not notice one at all if only the last bytes did not fit, which C buffers until it closes.)
    """
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    write_new(path, header.getvalue(), array.reshape(-1).view(np.uint8).data if array.size else b"")


def compact(array: np.ndarray) -> np.ndarray:
    """The smallest form of ``array`` that broadcasts and casts back to it, bit for bit."""
    for axis in range(array.ndim):
        if array.shape[axis] > 1 and _same(array.take([0], axis), array.take([1], axis)):
            first = array.take([0], axis)
            array = first if _same(np.broadcast_to(first, array.shape), array) else array
    if array.dtype.kind in "iu" or _is_small_whole(array):
        array = array.astype(_smallest(int(array.min(initial=0)), int(array.max(initial=0))))
    return np.ascontiguousarray(array)


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether they are equal, and zeros also in their sign."""
    if not np.array_equal(a, b):
        return False
    parts = {"f": lambda x: [x], "c": lambda x: [x.real, x.imag]}.get(a.dtype.kind, lambda x: [])
    return all(np.array_equal(np.signbit(x), np.signbit(y)) for x, y in zip(parts(a), parts(b), strict=True))


def _is_small_whole(array: np.ndarray) -> bool:
    """Whether floats are all 0 .. 65535 without a fraction (or a minus zero), so that integers hold them exactly."""
    if array.dtype.kind != "f" or array.size == 0 or not (array.min() >= 0 and float(array.max()) <= 65535):
        return False
    return bool(np.array_equal(np.rint(array), array)) and not np.signbit(array).any()


def _smallest(low: int, high: int) -> np.dtype:
    if low >= 0:
        return np.min_scalar_type(high)
    return next(np.dtype(f"i{size}") for size in (1, 2, 4, 8) if -(2 ** (8 * size - 1)) <= min(low, -1 - high))


def load(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """The array in ``path``, memory-mapped unless small, once it is known to mean an array of this form.

    Raises:
      DamagedError: what is in the file is no array, or of another form than it is declared to have.
    """
    array = stored(path)
    small = array.dtype == dtype or (array.dtype.kind in "iu" and dtype.kind in "iuf")
    broadcasts = array.ndim == len(shape) and all(n in (1, m) for n, m in zip(array.shape, shape, strict=True))
    if not small or not broadcasts or math.prod(shape) * dtype.itemsize > _LARGEST:
        raise DamagedError(f"{show(path)}: expected {dtype}{list(shape)}, found {array.dtype}{list(array.shape)}")
    return array


def stored(path: Path) -> np.ndarray:
    """The array in ``path``, memory-mapped unless small, whatever its form.

    Raises:
      DamagedError: what is in the file is no array, or not all of one.
    """
    offset, dtype, shape = _header(path)
    size, expected = path.stat().st_size, offset + math.prod(shape) * dtype.itemsize
    if size != expected:
        raise DamagedError(f"{show(path)}: expected the {expected} bytes that its header tells of, found {size}")
    if size == offset:
        return np.empty(shape, dtype)
    array = np.memmap(path, dtype, "r", offset, shape)
    return np.array(array) if array.nbytes <= SMALL else array


def _header(path: Path) -> tuple[int, np.dtype, tuple[int, ...]]:
    """Where the data begin, their dtype and shape."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
            version = np.lib.format.read_magic(file)
            if version != (1, 0):
                raise ValueError(f"version {version} of the format, not (1, 0)")
            shape, by_columns, dtype = np.lib.format.read_array_header_1_0(file)
            if by_columns or spelled(dtype) is None or min(shape, default=0) < 0:
                raise ValueError(f"an array of {dtype}{list(shape)}, not one that was stored here")
            return file.tell(), dtype, shape
    except Exception as error:  # what a hostile header makes its parser raise is of many kinds
        reason = " ".join((str(error) or type(error).__name__).split())[:200]
        raise DamagedError(f"{show(path)}: expected a stored array: {show(reason)}") from error
