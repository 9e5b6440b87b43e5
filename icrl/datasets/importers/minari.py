"""Minari datasets (Younis et al. 2024, https://minari.farama.org), ours or anybody's, read from their folder.

Minari knows episodes only. Where their infos number the task and the history of an episode, as ``icrl export`` writes
them, the episodes of a history are put together again; else all of them, in their order, are one stream of one task,
which is cut into histories of equal length. Whether that order is one of learning the source alone can tell.

Nothing but numbers is read: no environment is made from what the dataset names, and Minari itself is not needed.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from icrl.core.errors import InputError, require
from icrl.core.fields import setting
from icrl.core.progress import Progress
from icrl.core.registry import importers
from icrl.datasets._checks import ACTIONS, NEEDED, NEXT, OBSERVATIONS, PROPENSITIES, REWARDS, TERMINATED, TRUNCATED
from icrl.datasets._tasks import Survey, Tasks
from icrl.datasets.foreign import Exported, Found, found_in
from icrl.datasets.importers._hdf5 import form_of, group_in, numbers, opened
from icrl.datasets.importers._importer import HistoryImporter, pieces
from icrl.datasets.importers._minari_spaces import Space, action_count, observation_space
from icrl.storage.paths import show

FIELDS = ("rewards", "terminations", "truncations")
CUT_OFF = "an episode without a flag at its end was cut off: a time limit, but at the end of a history"
STREAM = "all episodes are one stream of one task, in their order, cut into histories of equal length"


@importers.register("minari", paper="Younis et al. 2024")
@dataclasses.dataclass(frozen=True)
class Minari(HistoryImporter):
    """The folder of a Minari dataset in its format ``hdf5``; actions must be Discrete, observations numbers."""

    task: str = setting("task_id", help="info that numbers the task of an episode; absent: all are of one task")
    history: str = setting("history", help="info that numbers the history of an episode; absent: a stream, cut")
    history_steps: int | None = setting(
        None, low=2, high=2**24, help="steps of a history cut from a stream; none: 1000 or a tenth of it, at most"
    )

    def tasks(self, source: Path) -> Tasks:
        return self._read(source).tasks

    def find(self, source: Path) -> Found:
        data = self._read(source)
        told, space = data.metadata, data.space
        env = _env_name(told)
        found = found_in(
            data.tasks,
            self.unequal,
            num_actions=self.num_actions or data.num_actions,
            nvec_of=lambda shape: self.values_of(shape) or space.nvec,
            source=str(told.get("algorithm_name", "unknown")),
            origin={"format": "minari", "from": str(told.get("dataset_id", source.name)), "env": env},
            assumed=(CUT_OFF,) if data.is_numbered else (STREAM, CUT_OFF, *data.left_out),
        )
        return found._replace(exported=_exported(told))

    def _read(self, source: Path) -> "_Dataset":
        data = source / "data" if (source / "data").is_dir() else source
        metadata = _metadata(data, source)
        kind = metadata.get("data_format", "hdf5")
        require(kind == "hdf5", f"{show(source.name)}: data_format", kind, "hdf5, Minari's usual one")
        return _Dataset(data / "main_data.hdf5", source.name, metadata, self.task, self.history, self.history_steps)


def _metadata(data: Path, source: Path) -> dict[str, Any]:
    try:
        metadata = json.loads((data / "metadata.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        hint = "minari.load_dataset(ID, download=True) brings one"
        raise InputError(f"source: got {show(source)}, allowed: the folder of a Minari dataset; {hint}") from error
    require(isinstance(metadata, dict), "source", show(source), "the folder of a Minari dataset")
    return metadata


def _env_name(metadata: Mapping[str, Any]) -> str:
    """The id of the environment that a dataset names; it is not made."""
    try:
        return str(json.loads(metadata["env_spec"])["id"])
    except (KeyError, TypeError, ValueError):
        return "recorded"


def _exported(metadata: Mapping[str, Any]) -> Exported | None:
    """The card of the set of ours that was exported as a whole."""
    told = metadata.get("icrl")
    if not (isinstance(told, dict) and told.get("whole") is True and isinstance(told.get("card"), dict)):
        return None
    return Exported(told["card"], str(told.get("digest")))


@dataclasses.dataclass(frozen=True, eq=False)
class _Dataset:
    """The episodes of a dataset, and which of them make which history."""

    file: Path
    name: str
    metadata: Mapping[str, Any]
    task_info: str
    history_info: str
    asked: int | None  # steps of a history cut from a stream

    @cached_property
    def space(self) -> Space:
        """Of the observations."""
        return observation_space(self.metadata.get("observation_space"), self.name)

    @cached_property
    def _actions(self) -> tuple[int, int]:
        return action_count(self.metadata.get("action_space"), self.name)

    @property
    def num_actions(self) -> int:
        """K."""
        return self._actions[0]

    @cached_property
    def _index(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Steps [E] of every episode, and their numbers [E, 2] of task and history if infos tell them."""
        self.space, self._actions  # noqa: B018, refuse what cannot be read before it is
        with opened(self.file) as file:
            count = len(file)
            require(count >= 1, f"{self.name}: episodes", "none", "one or more")
            steps = np.empty(count, np.int64)
            names = self.task_info, self.history_info
            infos = list(file["episode_0"]["infos"]) if "episode_0/infos" in file else []
            places = np.empty((count, 2), np.int64) if {*names} <= {*infos} else None
            with Progress("reading", count, "episodes") as bar:
                for number in range(count):
                    group, place = self._group(file, number)
                    shape = form_of(group, "rewards", place)[0]
                    require(len(shape) == 1, f"{place}: rewards: shape", shape, "[L], one number a step")
                    steps[number] = shape[0]
                    if places is not None:
                        told = group_in(group, "infos", place)
                        for column, name in enumerate(names):
                            found = numbers(told, name, place)
                            whole = found.ndim == 1 and len(found) > 0 and found.dtype.kind in "iu"
                            require(whole, f"{place}: {name}", f"{found.dtype} {found.shape}", "an integer a step")
                            places[number, column] = found[0]
                    if number % 1000 == 999:
                        bar.advance(1000)
                bar.advance(count % 1000)
        empty = np.flatnonzero(steps == 0)
        require(empty.size == 0, f"{self.name}: episode {empty[:1].tolist()}", "no step", "at least one")
        return steps, places

    def _group(self, file: Any, number: int) -> tuple[Any, str]:
        """An episode, and what to call it."""
        return group_in(file, f"episode_{number}", self.name), f"{self.name}: episode {number}"

    @property
    def is_numbered(self) -> bool:
        """Whether infos tell which history an episode is of."""
        return self._index[1] is not None

    @cached_property
    def _histories(self) -> dict[int, list[np.ndarray]]:
        """The episodes of each history of each task, in order."""
        steps, places = self._index
        if places is None:
            return {0: [np.arange(len(steps))]}
        found: dict[int, dict[int, list[int]]] = {}
        for episode, (task, history) in enumerate(places.tolist()):
            found.setdefault(task, {}).setdefault(history, []).append(episode)
        return {task: [np.array(each) for each in histories.values()] for task, histories in found.items()}

    @cached_property
    def _cut(self) -> tuple[int, int]:
        """(R, T) of the histories that a stream is cut into."""
        steps = self._index[0]
        return pieces(int(steps.sum()), self.asked, int(steps.max()))

    @property
    def left_out(self) -> tuple[str, ...]:
        """What is left of a stream behind the last history."""
        rest = int(self._index[0].sum()) - self._cut[0] * self._cut[1]
        return (f"the last {rest} steps of the stream left out",) if rest else ()

    @property
    def tasks(self) -> Tasks:
        """Where the arrays of each task are."""
        ids = list(self._histories)
        return Tasks(ids, lambda at: self._task(ids[at]), lambda at: f"{self.name}: task {ids[at]}", self._survey_of)

    def _survey_of(self, at: int) -> Survey:
        """From the steps of the episodes alone; of the last of a history the flags too."""
        steps, ends = self._index[0], []
        with opened(self.file) as file:
            for episodes in list(self._histories.values())[at]:
                last = np.cumsum(steps[episodes]) - 1
                group, place = self._group(file, int(episodes[-1]))
                flagged = any(numbers(group, name, place)[-1] for name in FIELDS[1:])
                ends.append(last if flagged else last[:-1])
            obs_dtype = form_of(self._group(file, 0)[0], "observations", self.name)[1]
        lengths = [int(steps[episodes].sum()) for episodes in list(self._histories.values())[at]]
        if not self.is_numbered:
            count, length = self._cut
            lengths = [length] * count
            ends = [ends[0][(ends[0] >= low) & (ends[0] < low + length)] - low for low in np.arange(count) * length]
        space, optional = self.space, (NEXT, PROPENSITIES) if self._has_propensities else (NEXT,)
        names = frozenset((*NEEDED, *optional))
        return Survey(lengths, ends, self.num_actions - 1, space.low, space.high, space.shape, obs_dtype, names)

    def _task(self, task: int) -> dict[str, Any]:
        rows = [self._joined(episodes) for episodes in self._histories[task]]
        if self.is_numbered:
            return {name: [row[name] for row in rows] for name in rows[0]}
        count, length = self._cut
        stream = rows[0]
        return {name: each[: count * length].reshape(count, length, *each.shape[1:]) for name, each in stream.items()}

    def _joined(self, episodes: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
        """The arrays [T, ...] of episodes that follow one another."""
        parts: dict[str, list[np.ndarray]] = {}
        with opened(self.file) as file:
            for number in map(int, episodes):
                for name, field in self._episode(*self._group(file, number), number).items():
                    parts.setdefault(name, []).append(field)
        joined = {name: np.concatenate(fields) for name, fields in parts.items()}
        last = np.cumsum([len(each) for each in parts[REWARDS]]) - 1
        inner = last[:-1][~(joined[TERMINATED] | joined[TRUNCATED])[last[:-1]]]
        joined[TRUNCATED][inner] = True  # the next episode begins behind it
        return joined

    def _episode(self, group: Any, place: str, number: int) -> dict[str, np.ndarray]:
        steps = int(self._index[0][number])
        rewards, terminated, truncated = (numbers(group, name, place) for name in FIELDS)
        actions = numbers(group, "actions", place) - self._actions[1]
        seen, expected = numbers(group, "observations", place), (steps + 1, *self.space.stored_shape)
        require(seen.shape == expected, f"{place}: observations: shape", seen.shape, f"{expected}")
        for name, each in (("actions", actions), ("terminations", terminated), ("truncations", truncated)):
            require(each.shape == (steps,), f"{place}: {name}: shape", each.shape, f"({steps},)")
        seen = seen.reshape(steps + 1, *self.space.shape)
        seen = seen - self.space.start if self.space.start.any() else seen
        found = {
            OBSERVATIONS: seen[:-1],
            ACTIONS: actions,
            REWARDS: rewards,
            NEXT: seen[1:],
            TERMINATED: np.asarray(terminated, bool),
            TRUNCATED: np.asarray(truncated, bool),
        }
        if self._has_propensities:
            found[PROPENSITIES] = numbers(group_in(group, "infos", place), "propensity", place)[:steps]
        return found

    @cached_property
    def _has_propensities(self) -> bool:
        with opened(self.file) as file:
            return "episode_0/infos/propensity" in file
