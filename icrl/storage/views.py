"""Views that are made again from records: the page, its figures, and the event files of a dashboard.

A folder of them is built beside and then put in its place. ``views.json`` says what they were when they were drawn; it
goes before the first of them is exchanged and comes back after the last, so that a kill leaves none, and no old one.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from icrl.core.errors import DamagedError, IncompleteError
from icrl.storage.documents import digest_of, read_document, write_document
from icrl.storage.paths import explained, refuse_links, show, sync, write_all
from icrl.storage.publish import (
    bytes_in,
    file_digest,
    full_disk_explained,
    make_folder,
    regular_files,
    remove_tree,
    removing,
    temporary_name,
)

VIEWS = "views.json"  # in the folder of a run
_FORM = {"results": str, "files": dict}
AGAIN = "`icrl report` draws it again"


def forget_views(folder: Path) -> None:
    """Say of no view of the run in ``folder`` what it was: they are about to be drawn again."""
    path = folder / VIEWS
    with explained(path):
        if os.path.lexists(path):
            os.unlink(path)
            sync(folder)


def record_views(folder: Path, results: Mapping[str, Any], files: Iterable[Path]) -> None:
    """Publish the digests of the ``files`` in ``folder`` that show ``results``."""
    with explained(folder):
        digests = {path.relative_to(folder).as_posix(): file_digest(path) for path in files}
    write_document(folder / VIEWS, {"results": digest_of(results), "files": digests})


def read_views(folder: Path, results: Mapping[str, Any]) -> dict[str, str]:
    """The digests of all views of the run in ``folder`` by name.

    Raises:
      IncompleteError: they have not all been drawn. DamagedError: they are not of ``results``, or the list is damaged.
    """
    path = folder / VIEWS
    if not os.path.lexists(path):
        raise IncompleteError(f"{show(folder)}: missing: {VIEWS}, as not everything was drawn; {AGAIN}")
    views = read_document(path, _FORM)
    for name, digest in views["files"].items():
        inside = not PurePosixPath(name).is_absolute() and ".." not in PurePosixPath(name).parts and "\0" not in name
        if not inside or not isinstance(digest, str):
            raise DamagedError(f"{show(path)}: expected names inside the folder with a digest, found {show(name)!r}")
    if views["results"] != digest_of(results):
        raise DamagedError(f"{show(path)}: the views are not those of results.json; {AGAIN}")
    return views["files"]


def check_view(folder: Path, name: str, digest: str) -> None:
    """Raise ``IncompleteError`` if the view ``name`` is missing, ``DamagedError`` if it is not as it was drawn."""
    path = folder / name
    if not os.path.lexists(path):
        raise IncompleteError(f"{show(folder)}: missing: {show(name)}; {AGAIN}")
    with explained(path):
        found = file_digest(path)
    if found != digest:
        raise DamagedError(f"{show(path)}: sha256: expected {show(digest)}, found {found}; {AGAIN}")


@contextlib.contextmanager
def replacing_files(folder: Path | str, pattern: str) -> Iterator[Path]:
    """Yield a temporary folder beside ``folder``; its files then replace those of ``folder`` that ``pattern`` names.

    Those of folders one below are replaced too; other files stay. It is for views that are made again from records
    (the event files of a dashboard): every file appears whole, and a kill while they are exchanged may leave some of
    them out. When the block raises, ``folder`` is as it was.
    """
    folder = Path(folder)
    refuse_links(folder)
    make_folder(folder)
    refuse_links(*folder.iterdir())
    temporary = temporary_name(folder.parent)
    with removing(temporary):
        with explained(folder):
            os.mkdir(temporary)
        with full_disk_explained(folder, temporary):
            yield temporary
        with explained(folder, bytes_in(temporary)):
            fresh = list(regular_files(temporary))
            for _, path in fresh:
                sync(path)
            for stale in [*folder.glob(pattern), *folder.glob(f"*/{pattern}")]:
                stale.unlink()
            for name, path in fresh:
                make_folder((folder / name).parent)
                os.replace(path, folder / name)
            for changed in {folder, *((folder / name).parent for name, _ in fresh)}:
                sync(changed)
            remove_tree(temporary)


def append_to_view(path: Path, data: bytes) -> None:
    """Append ``data`` to a view that grows; not durably, as it is made anew whenever its writer begins again.

    After a failure the view is as it was.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
    try:
        size = os.fstat(descriptor).st_size
        try:
            write_all(descriptor, data)
        except OSError:
            os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)
