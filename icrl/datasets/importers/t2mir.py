"""T2MIR (Wu et al. 2025, arXiv 2506.05426): one history a task, all its episodes of one length."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from icrl.core.errors import require
from icrl.core.registry import importers
from icrl.datasets._checks import ACTIONS, NEXT, OBSERVATIONS, REWARDS, TERMINATED, TRUNCATED
from icrl.datasets._tasks import Tasks
from icrl.datasets.importers._importer import HistoryImporter, indices_of, needed, npz_files, read_npz

KEYS = ("states", "actions", "rewards", "next_states", "dones", "masks")


@importers.register("t2mir", paper="Wu et al. 2025")
@dataclasses.dataclass(frozen=True)
class T2MIR(HistoryImporter):
    """``.npz`` files of ``states``, ``next_states`` [T, d], ``actions`` [T] or one-hot, ``rewards``, ``dones``, masks.

    A folder with a file a task (``dataset_task_7.npz``), or one file whose arrays have the tasks first. Theirs are
    pickles of the same arrays, which are not read: unpickling runs whatever a file says. Convert them where you trust
    them: ``np.savez("dataset_task_7.npz", **pickle.load(file))``.
    """

    def tasks(self, source: Path) -> Tasks:
        files = npz_files(source)
        if len(files) > 1 or source.is_dir():
            return Tasks(
                range(len(files)), lambda at: _read(read_npz(files[at]), files[at].name), lambda at: files[at].name
            )
        held = read_npz(source)
        needed(held, KEYS, source.name)
        require(held["states"].ndim >= 3, f"{source.name}: states: shape", held["states"].shape, "[tasks, T, d]")

        def where(at: int) -> str:
            return f"{source.name}: task {at}"

        def read(at: int) -> dict[str, Any]:
            return _read({name: held[name][at] for name in KEYS}, where(at))

        return Tasks(range(len(held["states"])), read, where)

    def assumed(self) -> tuple[str, ...]:
        return ("a done with mask 0 is a termination, one with mask 1 a time limit",)


def _read(arrays: dict[str, np.ndarray], place: str) -> dict[str, Any]:
    needed(arrays, KEYS, place)
    steps = len(arrays["states"])
    for name in ("rewards", "dones", "masks"):
        require(
            arrays[name].size == steps, f"{place}: {name}: shape", arrays[name].shape, f"[{steps}], a number a step"
        )
    flat = {name: arrays[name].reshape(steps, -1)[:, 0] for name in ("rewards", "dones", "masks")}
    over, real = flat["dones"] != 0, flat["masks"] == 0
    found = {
        OBSERVATIONS: arrays["states"],
        ACTIONS: indices_of(arrays["actions"], place)[0],
        REWARDS: flat["rewards"],
        NEXT: arrays["next_states"],
        TERMINATED: over & real,
        TRUNCATED: over & ~real,
    }
    return {name: array[None] for name, array in found.items()}
