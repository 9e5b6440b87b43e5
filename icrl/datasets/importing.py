"""``icrl import``: data of others in one of the registered layouts, written as a set of ours."""

from pathlib import Path
from typing import Any

from icrl.core.errors import IncompleteError, InputError, require
from icrl.core.registry import importers
from icrl.core.settings import replaced
from icrl.datasets.store import CARD, StoredRecords
from icrl.storage.paths import show


def importer_for(source: Path, layout: str = "") -> Any:
    """The importer called ``layout`` with its defaults; "" is the one that the name of ``source`` means."""
    if layout:
        return importers[layout]()
    if source.is_dir() and any((folder / "metadata.json").is_file() for folder in (source, source / "data")):
        return importers["minari"]()
    for name in importers:
        if source.suffix in importers[name].suffixes:
            return importers[name]()
    raise InputError(f"format: {show(source.name)} does not tell it; allowed: --format {', '.join(importers)}")


def import_histories(source: Path | str, folder: Path | str, layout: str = "", **settings: Any) -> None:
    """Read what is in ``source`` and write it as a set to train on: ``icrl run ad --data FOLDER``.

    Args:
      source: a file or a folder; see the importers (``icrl list importers``).
      folder: of the set, a new one, or that of an import of the same that was interrupted.
      layout: the name of an importer; "": as the name of ``source`` tells.
      settings: of that importer.

    Raises:
      InputError: no such layout or setting, or something in the source, named by its place in it.
    """
    source, folder = Path(source).expanduser(), Path(folder).expanduser()
    require(source.exists(), "source", str(source), "a file or folder that is there")
    require(not folder.exists() or folder.is_dir(), "out", str(folder), "a folder", "this is a file")
    require(not _is_complete(folder), "out", str(folder), "a new folder", "this one holds a set already")
    replaced(importer_for(source, layout), settings).find(source).store(folder)


def _is_complete(folder: Path) -> bool:
    """Whether all of a set is there, so that nothing would be written."""
    if not (folder / CARD).exists():
        return False
    try:
        StoredRecords(folder, verify=False)
    except IncompleteError:
        return False
    return True
