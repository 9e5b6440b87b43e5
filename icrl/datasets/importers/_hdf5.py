"""HDF5 files, opened only to read numbers: links to other files are not followed."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from icrl.core.errors import InputError, require
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


def array(group: Any, name: str, place: str) -> Any:
    """The dataset ``name`` of a ``group``; ``InputError`` if it is none, or kept in another file."""
    import h5py

    kind = group.get(name, getlink=True)
    require(kind is not None, f"{place}: {name}", "nothing", f"a dataset; there are {', '.join(list(group)[:20])}")
    inside = not isinstance(kind, h5py.ExternalLink)
    found = group[name] if inside else None
    kept_here = isinstance(found, h5py.Dataset) and found.external is None and not found.is_virtual
    require(kept_here, f"{place}: {name}", type(kind).__name__, "a dataset in this file")
    return found
