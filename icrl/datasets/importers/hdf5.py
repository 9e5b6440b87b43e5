"""Histories in one HDF5 file, under the names that ``store_histories`` documents."""

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

from icrl.core.errors import require
from icrl.core.registry import importers
from icrl.datasets._checks import ACTIONS, NAMES, NEEDED
from icrl.datasets._tasks import Tasks
from icrl.datasets.importers._hdf5 import group_in, opened, rows
from icrl.datasets.importers._importer import HistoryImporter, check_ranks, needed


@importers.register("hdf5", paper="-")
@dataclasses.dataclass(frozen=True)
class Hdf5(HistoryImporter):
    """Datasets ``observations``, ``actions``, ``rewards``, ``terminated`` and ``truncated``, or a group of them a task.

    ``next_observations`` and ``propensities`` may be there as well. ``actions`` are [N, R, T] at the root; in a group
    [R, T] or [T], the groups in the order of the file. One task is read at a time.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".h5", ".hdf5")

    def tasks(self, source: Path) -> Tasks:
        with opened(source) as file:
            if ACTIONS in file:
                shape = rows(file, ACTIONS, source.name).shape
                require(len(shape) == 3, f"{source.name}: {ACTIONS}: shape", shape, "[N, R, T], or groups of [R, T]")
                groups, count = None, shape[0]
            else:
                groups, count = list(file), len(file)
                require(count >= 1, f"{source.name}: {ACTIONS}", "nothing", "a dataset, or groups that have one")

        def where(at: int) -> str:
            return f"{source.name}: task {at}" if groups is None else f"{source.name}: group {groups[at]}"

        def read(at: int) -> dict[str, Any]:
            with opened(source) as file:
                if groups is not None:
                    group_in(file, groups[at], source.name)
                group = file if groups is None else file[groups[at]]
                needed(group, NEEDED, where(at))
                found = {name: rows(group, name, where(at)) for name in NAMES.values() if name in group}
                if groups is None:
                    check_ranks(found, where(at))
                    return {name: each[at] for name, each in found.items()}
                rank = found[ACTIONS].ndim
                require(1 <= rank <= 2, f"{where(at)}: {ACTIONS}: shape", found[ACTIONS].shape, "[R, T] or [T]")
                check_ranks(found, where(at))
                return {name: each[()][(None,) * (2 - rank)] for name, each in found.items()}

        return Tasks(range(count), read, where)
