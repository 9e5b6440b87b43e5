"""HDF5 files, opened only to read numbers: links to other files are not followed.

Sets of many short episodes have several small datasets each; h5py's low-level calls read one in a third of the time.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from icrl.core.errors import InputError, near_names, require
from icrl.storage.paths import show


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The file as h5py has it.

    Raises:
      InputError: h5py is not installed, no such file, or it is no HDF5.
    """
    try:
        import h5py
    except ImportError as error:
        raise InputError(f"import: needs h5py ({error}); install the extra icrl[hdf5]") from error
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise InputError(f"source: got {show(path)}, allowed: an HDF5 file ({show(error)})") from error
    with file:
        yield file


def group_in(parent: Any, name: str, place: str) -> Any:
    """The low-level group ``name`` of a file or group ``parent``."""
    from h5py import h5g

    within = _low(parent)
    _check_link(within, name, place)
    try:
        return h5g.open(within, name.encode())
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"{place}: {name}: got a dataset, allowed: a group") from error


def form_of(group: Any, name: str, place: str) -> tuple[tuple[int, ...], np.dtype]:
    """(shape, dtype) of the dataset ``name`` of a ``group``."""
    found = _dataset(group, name, place)
    return found.shape, found.dtype


def numbers(group: Any, name: str, place: str) -> np.ndarray:
    """All of the dataset ``name`` of a ``group``; ``InputError`` unless it has numbers, kept in this file."""
    from h5py import h5s

    found = _dataset(group, name, place)
    array = np.empty(found.shape, found.dtype)
    require(array.dtype.kind in "fiub", f"{place}: {name}", str(array.dtype), "numbers")
    found.read(h5s.ALL, h5s.ALL, array)
    return array


def rows(group: Any, name: str, place: str) -> Any:
    """The dataset ``name`` of a ``group`` as h5py's, of which rows are read when they are asked for."""
    _dataset(group, name, place)
    return group[name]


def _dataset(group: Any, name: str, place: str) -> Any:
    from h5py import h5d

    within = _low(group)
    _check_link(within, name, place)
    try:
        found = h5d.open(within, name.encode())
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"{place}: {name}: got a group, allowed: a dataset") from error
    stored = found.get_create_plist()
    if stored.get_layout() == h5d.VIRTUAL or stored.get_external_count():
        raise InputError(f"{place}: {name}: got data of another file, allowed: a dataset in this one")
    return found


def _low(group: Any) -> Any:
    """The low-level handle of a file or group; of such a handle itself."""
    import h5py

    return group.id if isinstance(group, h5py.Group) else group


def _check_link(within: Any, name: str, place: str) -> None:
    from h5py import h5l

    if not within.links.exists(name.encode()):
        raise InputError(f"{place}: {name}: missing; {near_names(name, [each.decode() for each in within])}")
    if within.links.get_info(name.encode()).type != h5l.TYPE_HARD:
        raise InputError(f"{place}: {name}: got a link, allowed: what is in this file")
