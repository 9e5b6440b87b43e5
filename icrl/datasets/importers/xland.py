"""XLand-100B (Nikulin et al. 2024, arXiv 2406.08973): learning histories of XLand-MiniGrid, a group a task."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from icrl.core.errors import InputError, require
from icrl.core.fields import setting
from icrl.core.registry import importers
from icrl.datasets._checks import ACTIONS, OBSERVATIONS, REWARDS, TERMINATED, TRUNCATED
from icrl.datasets._tasks import Tasks
from icrl.datasets.importers._hdf5 import group_in, numbers, opened
from icrl.datasets.importers._importer import HistoryImporter


@importers.register("xland", paper="Nikulin et al. 2024")
@dataclasses.dataclass(frozen=True)
class XLand(HistoryImporter):
    """Groups "0", "1", ... of ``states`` [R, T, 5, 5], ``actions``, ``rewards`` and ``dones`` [R, T].

    A cell of ``states`` packs tile x colours + colour into a byte; it becomes two numbers, which enter a model one-hot.
    ``expert_actions`` are not read. A file without ``dones`` has histories in which no episode ends.
    """

    colors: int = setting(12, low=1, high=255, help="colours of XLand-MiniGrid, by which a cell is packed")
    tiles: int = setting(13, low=1, high=255, help="tiles of XLand-MiniGrid")

    def tasks(self, source: Path) -> Tasks:
        with opened(source) as file:
            names = sorted((name for name in file if name.isdigit()), key=int)
        require(bool(names), "source", source.name, 'an HDF5 file with groups "0", "1", ... of tasks')
        return Tasks([int(name) for name in names], lambda at: self._read(source, names[at]), _where(source, names))

    def _read(self, source: Path, name: str) -> dict[str, Any]:
        place = f"{source.name}: group {name}"
        with opened(source) as file:
            group = group_in(file, name, source.name)
            states, actions, rewards = (numbers(group, field, place) for field in ("states", "actions", "rewards"))
            has_dones = f"{name}/dones" in file
            over = numbers(group, "dones", place) if has_dones else np.zeros(rewards.shape, bool)
        require(states.dtype.kind in "iu", f"{place}: states", str(states.dtype), "packed integers")
        most, allowed = int(states.max(initial=0)), f"below {self.tiles} x {self.colors}, tiles x colors"
        require(most < self.tiles * self.colors, f"{place}: states", most, allowed, "--colors as it was packed with")
        cells = np.stack(np.divmod(states, states.dtype.type(self.colors)), axis=-1)
        flags = {TERMINATED: over, TRUNCATED: np.zeros(over.shape, bool)}
        return {OBSERVATIONS: cells, ACTIONS: actions, REWARDS: rewards, **flags}

    def values_of(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (self.tiles, self.colors) * int(np.prod(shape[:-1]))

    def assumed(self) -> tuple[str, ...]:
        return ("every done is a termination: the files do not tell time limits from them",)

    def about(self, source: Path) -> dict[str, str]:
        with opened(source) as file:
            first = next(iter(file), None)
            told = {} if first is None else {name: str(value) for name, value in file[first].attrs.items()}
        try:
            return {"env": told["env-id"], "benchmark": told["benchmark-id"], "source": "ppo"}
        except KeyError as error:
            raise InputError(f"{source.name}: attribute {error}: missing; a file of XLand-100B has it") from error


def _where(source: Path, names: list[str]) -> Any:
    return lambda at: f"{source.name}: group {names[at]}"
