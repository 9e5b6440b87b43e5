"""Views that are made again from records, as the event files of a dashboard: built beside, then put in their place."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from icrl.storage.paths import explained, refuse_links, sync
from icrl.storage.publish import (
    bytes_in,
    full_disk_explained,
    make_folder,
    regular_files,
    remove_tree,
    removing,
    temporary_name,
)


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
