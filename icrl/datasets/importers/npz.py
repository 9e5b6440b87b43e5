"""Histories in NumPy archives, under the names that ``store_histories`` documents."""

import dataclasses
from pathlib import Path
from typing import ClassVar

from icrl.core.errors import require
from icrl.core.registry import importers
from icrl.datasets._checks import ACTIONS, NAMES, NEEDED
from icrl.datasets._tasks import Tasks
from icrl.datasets.importers._importer import HistoryImporter, check_ranks, needed, npz_files, read_npz


@importers.register("npz", paper="-")
@dataclasses.dataclass(frozen=True)
class Npz(HistoryImporter):
    """A ``.npz`` file of ``observations``, ``actions``, ``rewards``, ``terminated`` and ``truncated``, or a folder.

    ``next_observations`` and ``propensities`` may be there as well. In a file ``actions`` are [N, R, T], or [R, T] or
    [T] of one task; in a folder each file is a task, in the order of the numbers in their names.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".npz",)

    def tasks(self, source: Path) -> Tasks:
        files = npz_files(source)
        if len(files) > 1:
            return Tasks(range(len(files)), lambda at: _of_task(files[at]), lambda at: files[at].name)
        held = _documented(files[0])
        rank = held[ACTIONS].ndim
        require(1 <= rank <= 3, f"{files[0].name}: {ACTIONS}: shape", held[ACTIONS].shape, "[N, R, T], [R, T] or [T]")
        check_ranks(held, files[0].name)
        held = {name: array[(None,) * (3 - rank)] for name, array in held.items()}
        count = len(held[ACTIONS])
        where = files[0].name
        return Tasks(
            range(count),
            lambda at: {name: array[at] for name, array in held.items()},
            lambda at: f"{where}: task {at}",
        )


def _documented(path: Path) -> dict:
    arrays = read_npz(path)
    needed(arrays, NEEDED, path.name)
    return {name: arrays[name] for name in NAMES.values() if name in arrays}


def _of_task(path: Path) -> dict:
    arrays = _documented(path)
    rank = arrays[ACTIONS].ndim
    require(1 <= rank <= 2, f"{path.name}: {ACTIONS}: shape", arrays[ACTIONS].shape, "[R, T] or [T], of one task")
    check_ranks(arrays, path.name)
    return {name: array[(None,) * (2 - rank)] for name, array in arrays.items()}
