"""ICRL4AHT: histories of PPO with teammates in Overcooked, a folder a task, arrays with time first."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from icrl.core.errors import require
from icrl.core.registry import importers
from icrl.datasets._checks import ACTIONS, OBSERVATIONS, REWARDS, TERMINATED, TRUNCATED
from icrl.datasets._tasks import Tasks
from icrl.datasets.importers._importer import HistoryImporter, needed, npz_files, read_npz


@importers.register("icrl4aht", paper="AHT-Hub/ICRL4AHT, runners/history_recorder.py")
@dataclasses.dataclass(frozen=True)
class ICRL4AHT(HistoryImporter):
    """Folders TASK/``history.npz`` of ``obs_t`` [T, E, *O], ``act_t``, ``rew_t`` and ``done_t`` [T, E].

    The E streams of one learner are the R histories of its task; the teammate's actions are not read.
    """

    def tasks(self, source: Path) -> Tasks:
        require(source.is_dir(), "source", source.name, "a folder of folders with a history.npz each")
        files = npz_files(source, "*/history.npz")
        names = [path.parent.name for path in files]
        return Tasks(range(len(files)), lambda at: _read(files[at], names[at]), lambda at: names[at])

    def assumed(self) -> tuple[str, ...]:
        return ("every done is a time limit, as Overcooked's episodes end",)

    def about(self, source: Path) -> dict[str, str]:
        del source
        return {"env": "Overcooked", "source": "ppo"}


def _read(path: Path, place: str) -> dict[str, Any]:
    arrays = read_npz(path)
    needed(arrays, ("obs_t", "act_t", "rew_t", "done_t"), place)
    for name in ("act_t", "rew_t", "done_t"):
        require(arrays[name].ndim == 2, f"{place}: {name}: shape", arrays[name].shape, "[T, E], time first")
    require(arrays["obs_t"].ndim >= 2, f"{place}: obs_t: shape", arrays["obs_t"].shape, "[T, E, ...], time first")
    by_stream = {name: np.swapaxes(array, 0, 1) for name, array in arrays.items() if array.ndim >= 2}
    over = by_stream["done_t"]
    return {
        OBSERVATIONS: by_stream["obs_t"],
        ACTIONS: by_stream["act_t"],
        REWARDS: by_stream["rew_t"],
        TERMINATED: np.zeros(over.shape, bool),
        TRUNCATED: over,
    }
