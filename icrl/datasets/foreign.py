"""Histories that somebody else recorded, in our store: checked, and with a card that says what was assumed of them.

Letters: N tasks, R histories of T steps each, O the shape of one observation, K actions.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from icrl.core.errors import InputError, require, require_int
from icrl.core.resources import Need, require_memory
from icrl.core.settings import flat
from icrl.core.types import EnvSpec
from icrl.datasets._checks import (
    ACTIONS,
    LARGEST,
    NAMES,
    NEEDED,
    NEXT,
    OBSERVATIONS,
    TERMINATED,
    TRUNCATED,
    checked,
    integers,
    kept_dtype,
    shifted,
)
from icrl.datasets.histories import RECORDED
from icrl.datasets.store import COUNT, StoredRecords, store_records
from icrl.envs._recorded import RecordedEnvironment
from icrl.storage.paths import show
from icrl.storage.publish import discard_folder

REFUSE, CUT = "refuse", "cut"
UNEQUAL = (REFUSE, CUT)  # what is done with histories of different lengths
FOREIGN = "foreign"  # key of the card that says where a set comes from
FLOAT, COPIES = 4, 4  # bytes of a number; times that a task is in memory while it is checked and written
SHARD_BYTES = 2**27  # of records in a shard, about, and so in memory
SEGMENTS = 20  # that filters see of a history in which no episode ends

Arrays = Mapping[str, Any]  # names of ``_checks`` to arrays [R, T, ...] of one task, or R of them [T, ...]


class Exported(NamedTuple):
    """What a set of ours said of itself when it was exported as a whole."""

    card: dict[str, Any]
    digest: str


class Found(NamedTuple):
    """Histories as they were found, one form for all N tasks."""

    spec: EnvSpec
    task_ids: list[int]  # [N]
    num_histories: int  # R
    num_steps: int  # T
    episode_steps: int  # steps behind one return that a filter sees
    fetch: Callable[[np.ndarray], dict[str, np.ndarray]]  # positions [n] to the fields of their records [n, R, T, ...]
    source: str = "unknown"  # who acted
    origin: Mapping[str, Any] = {}  # where they come from
    assumed: tuple[str, ...] = ()  # what is not recorded, a sentence each
    exported: Exported | None = None  # of a set of ours, to become the same again

    def store(self, folder: Path) -> None:
        """Write them under ``folder``; of a set that turns out to be wrong nothing stays.

        Raises:
          InputError: something in them, named by its place, or a folder that holds other data.
        """
        folder = Path(folder)
        if self.exported is None:
            self._write(folder, self.card())
            return
        self._write(folder, _made_by(self.exported.card))
        if StoredRecords(folder, verify=False).digest != self.exported.digest:
            discard_folder(folder)
            changed = f"not the set of digest {self.exported.digest} any more, which it says it was"
            self._replace(exported=None, assumed=(*self.assumed, changed)).store(folder)

    def _write(self, folder: Path, card: dict[str, Any]) -> None:
        new = not folder.exists()
        size = self.num_histories * self.num_steps * (2 * FLOAT * self.spec.obs_dim + 4 * FLOAT)
        require_memory(Need("a task of the import", COPIES * size, "history_steps, or cut the source"))
        shard_tasks = max(1, SHARD_BYTES // size)
        try:
            store_records(folder, self.fetch, len(self.task_ids), card, shard_tasks, "importing")
        except InputError:
            if new and folder.is_dir():
                discard_folder(folder)
            raise

    def card(self) -> dict[str, Any]:
        """What the store says of them. No optimum is known: whoever needs one takes the best return of a task."""
        env = RecordedEnvironment.of(self.spec, len(self.task_ids))
        return {
            "env": {"id": RECORDED, **flat(env)},
            "source": self.source,
            FOREIGN: {**self.origin, "assumed": list(self.assumed)},
            "histories": self.num_histories,
            "num_steps": self.num_steps,
            "episode_steps": self.episode_steps,
            "task_ids": self.task_ids,
            "optimal_return": None,
        }


class Survey(NamedTuple):
    """What one task has, as far as it must be known before anything is written."""

    lengths: list[int]  # of each of its histories
    ends: list[np.ndarray]  # of each, the steps that end an episode, ascending
    most: int  # the largest action
    low: float  # the least number in an observation
    high: float
    obs_shape: tuple[int, ...]
    obs_dtype: np.dtype
    has_next: bool


@dataclasses.dataclass(frozen=True)
class Tasks:
    """Where the arrays of N tasks are; one task is in memory at a time."""

    ids: Sequence[int]  # [N]
    read: Callable[[int], Arrays]  # of the task at a position
    where: Callable[[int], str]  # what to call it: a file, or its id
    survey: Callable[[int], Survey] | None = None  # of the task at a position; None: its arrays are read for it


def store_histories(
    folder: Path | str,
    arrays: Mapping[str, Any],
    env_spec: EnvSpec,
    *,
    task_ids: Sequence[int] | None = None,
    source: str = "unknown",
    unequal: str = REFUSE,
    origin: str = "arrays",
) -> None:
    """Write histories that are in memory as a set to train on: ``icrl run ad --data FOLDER``.

    Args:
      folder: of the set, a new one.
      arrays: by name, each [N, R, T, ...] or, where lengths differ, a list of N lists of R arrays [T, ...]:
        ``observations`` [.., *O], ``actions`` integers in 0 .. K - 1, ``rewards``, ``terminated``, ``truncated`` bool;
        and, if they are known, ``next_observations`` [.., *O], the true last ones at the ends of episodes, and
        ``propensities`` in (0, 1], how likely each action was. Without next observations those of the next step
        are taken, and at the end of an episode the observation itself; the card says so.
      env_spec: of the environment: K, O, ``obs_nvec`` where observations are integers, H.
      task_ids: [N] numbers of the tasks; None: 0 .. N - 1.
      source: who acted, in words.
      unequal: ``refuse`` histories of different lengths or numbers, or ``cut`` all to the shortest and the fewest.
      origin: where they come from, in words.

    Raises:
      InputError: what does not fit, named by array, task, history and step.
    """
    require(isinstance(env_spec, EnvSpec), "env_spec", type(env_spec).__name__, "an icrl.core.types.EnvSpec")
    missing = [name for name in NEEDED if name not in arrays]
    unknown = sorted(set(arrays) - set(NAMES.values()))
    require(not missing and not unknown, "arrays", sorted(arrays), f"{', '.join(NEEDED)}; also {', '.join(OPTIONAL)}")
    count = len(arrays[ACTIONS])
    for name, array in arrays.items():
        require(len(array) == count, name, f"{len(array)} tasks", f"{count}, as many as there are of {ACTIONS}")
    ids = list(range(count)) if task_ids is None else [require_int("task_ids", i, 0, 2**31 - 1) for i in task_ids]
    require(len(ids) == count and len(set(ids)) == count, "task_ids", ids, f"{count} different numbers, one a task")
    tasks = Tasks(ids, lambda at: {name: array[at] for name, array in arrays.items()}, lambda at: f"task {ids[at]}")
    found_in(tasks, unequal, env_spec, source=source, origin={"format": "arrays", "from": origin}).store(Path(folder))


OPTIONAL = tuple(name for name in NAMES.values() if name not in NEEDED)


def found_in(
    tasks: Tasks,
    unequal: str = REFUSE,
    spec: EnvSpec | None = None,
    *,
    num_actions: int | None = None,
    nvec_of: Callable[[tuple[int, ...]], tuple[int, ...]] = lambda shape: (),
    source: str = "unknown",
    origin: Mapping[str, Any] | None = None,
    assumed: Sequence[str] = (),
) -> Found:
    """The histories of ``tasks`` as one form; every task is read once for what is not told, and again to be written.

    Without ``spec`` K is ``num_actions`` or one more than the largest action, O the shape of the observations, of whose
    scalars ``nvec_of`` says how many values each has (none: they are real numbers), and H the longest episode.

    Raises:
      InputError: no task, histories of unequal length or number with ``unequal`` "refuse", or real-numbered actions.
    """
    require(unequal in UNEQUAL, "unequal", unequal, " or ".join(UNEQUAL))
    require(len(tasks.ids) >= 1, "histories", "no task", "at least one")
    survey = tasks.survey or (lambda at: _survey(tasks.read(at), tasks.where(at)))
    each, said = [survey(at) for at in range(len(tasks.ids))], list(assumed)
    form = _form(tasks, each, unequal, said)
    longest, shortest = _episodes(form, each)
    known = spec or _spec(each[0], num_actions or _most(each, said), nvec_of, longest, shortest < longest, origin)
    limit, hint = known.max_steps_in_episode, "H, or the flags, are wrong"
    require(longest <= limit, "episodes", f"{longest} steps without a flag", f"at most H = {limit}", hint)
    if not all(one.has_next for one in each):
        said.append("next observations made by shifting: at the end of an episode the observation itself is repeated")
    said.append("no optimum is known: filters take the best return of a task for it")
    dtypes = {kept_dtype(one.obs_dtype) for one in each}
    fetch = _Fetch(form, known, dtypes.pop() if len(dtypes) == 1 else np.dtype(np.float32))
    any_ends = any(row.size for one in each for row in one.ends)
    segment = longest if any_ends else max(1, form.num_steps // SEGMENTS)
    ids = [int(number) for number in tasks.ids]
    return Found(known, ids, form.num_histories, form.num_steps, segment, fetch, source, origin or {}, tuple(said))


def _survey(arrays: Arrays, place: str) -> Survey:
    rows = {name: _rows(name, array, place) for name, array in arrays.items()}
    for name in NEEDED:
        require(name in rows, f"{place}: {name}", "nothing", "an array")
    lengths = [len(row) for row in rows[ACTIONS]]
    for name, each in rows.items():
        found = [len(row) for row in each]
        require(found == lengths, f"{place}: {name}", _words(found), f"{_words(lengths)}, as {ACTIONS} has")
    require(min(lengths, default=0) >= 1, f"{place}: {ACTIONS}", "no step", "at least one in each history")
    for row in rows[ACTIONS]:
        hint = "continuous actions cannot be predicted here"
        integers(ACTIONS, row, place, hint)
        require(row.ndim == 1, f"{place}: {ACTIONS}: shape", row.shape, "[T], one number a step", hint)
    seen = rows[OBSERVATIONS]
    require(seen[0].dtype.kind in "fiub", f"{place}: {OBSERVATIONS}", str(seen[0].dtype), "numbers")
    over = zip(rows[TERMINATED], rows[TRUNCATED], strict=True)
    return Survey(
        lengths,
        [np.flatnonzero((terminated != 0) | (truncated != 0)) for terminated, truncated in over],
        max(int(row.max()) for row in rows[ACTIONS]),
        min(float(np.min(row)) for row in seen),
        max(float(np.max(row)) for row in seen),
        seen[0].shape[1:],
        seen[0].dtype,
        NEXT in rows,
    )


def _words(lengths: list[int]) -> str:
    """Lengths of histories for a message."""
    same = len(set(lengths)) == 1
    return f"{len(lengths)} histories of {lengths[0] if same else lengths} steps"


def _rows(name: str, array: Any, place: str) -> list[np.ndarray]:
    """The R arrays [T, ...] of a task."""
    try:
        rows = [np.asarray(row) for row in array]
    except (TypeError, ValueError) as error:
        raise InputError(f"{place}: {name}: not arrays [T, ...]: {show(error)}") from error
    for row in rows:
        require(row.ndim >= 1, f"{place}: {name}", f"an array of shape {np.shape(array)}", "[R, T, ...]")
    return rows


def _form(tasks: Tasks, each: list[Survey], unequal: str, said: list[str]) -> "_Form":
    """(R, T) of all tasks, the fewest and the shortest where they differ and may be cut."""
    counts, lengths = [len(one.lengths) for one in each], [length for one in each for length in one.lengths]
    num_histories, num_steps, total = min(counts), min(lengths), sum(lengths)
    kept = len(each) * num_histories * num_steps
    if kept < total:
        found = f"{num_steps} to {max(lengths)} steps, {num_histories} to {max(counts)} a task"
        require(unequal == CUT, "histories", found, "one length, and as many of each task", "--unequal cut cuts them")
        said.append(f"cut to {num_histories} histories of {num_steps} steps a task, {total - kept} of {total} left out")
    require(num_steps >= 2, "histories", f"of {num_steps} step", "at least 2 steps")
    return _Form(tasks, num_histories, num_steps)


def _episodes(form: "_Form", each: list[Survey]) -> tuple[int, int]:
    """Steps of the longest episode and of the shortest that ends, T where none does.

    Raises:
      InputError: a history in which none ends, beside others.
    """
    ends = [row[row < form.num_steps] for one in each for row in one.ends[: form.num_histories]]
    none = [row.size == 0 for row in ends]
    if any(none) and not all(none):
        task, history = divmod(none.index(True), form.num_histories)
        place = f"{form.tasks.where(task)}: episodes of history {history}"
        require(False, place, "none that ends", "one in each history, or none in any", "longer histories have one")
    longest, shortest = 1, form.num_steps
    for row in ends:
        steps = np.diff(row, prepend=-1)
        rest = form.num_steps - 1 - int(row[-1] if row.size else -1)
        longest, shortest = max(longest, int(steps.max(initial=rest))), min(shortest, int(steps.min(initial=shortest)))
    return longest, shortest


def _most(each: list[Survey], said: list[str]) -> int:
    """K as the data have it."""
    num_actions = 1 + max(one.most for one in each)
    said.append(f"K = {num_actions} actions, one more than the largest number seen")
    return num_actions


def _spec(
    first: Survey,
    num_actions: int,
    nvec_of: Callable[[tuple[int, ...]], tuple[int, ...]],
    horizon: int,
    ends_early: bool,
    origin: Mapping[str, Any] | None,
) -> EnvSpec:
    """What the data tell of their environment; the range of its observations is theirs in the first task."""
    shape, name = first.obs_shape or (1,), str((origin or {}).get("env") or RECORDED)
    low, high = (float(np.clip(end, -LARGEST, LARGEST)) for end in (first.low, first.high))
    return EnvSpec(name, num_actions, shape, low, high, horizon, nvec_of(shape), ends_early=ends_early)


def _made_by(card: dict[str, Any]) -> dict[str, Any]:
    """A card without what the store adds to it."""
    return {name: value for name, value in card.items() if name not in ("shard_tasks", "format", COUNT)}


@dataclasses.dataclass(frozen=True)
class _Form:
    """Arrays of every task in one form, cut if they are longer."""

    tasks: Tasks
    num_histories: int
    num_steps: int

    def of_task(self, at: int, names: Sequence[str] = ()) -> dict[str, np.ndarray]:
        """Arrays [R, T, ...] of the task at a position, all or those called ``names``."""
        arrays = self.tasks.read(at)
        where = self.tasks.where(at)
        found = {name: self._stacked(name, arrays[name], where) for name in names or arrays}
        if OBSERVATIONS in found:
            for name in (OBSERVATIONS, NEXT):
                if name in found and found[name].ndim == 2:  # one number is an observation of shape [1]
                    found[name] = found[name][..., None]
            if NEXT not in found:
                over = (found[TERMINATED] != 0) | (found[TRUNCATED] != 0)
                found[NEXT] = shifted(found[OBSERVATIONS], over)
        return found

    def _stacked(self, name: str, array: Any, where: str) -> np.ndarray:
        rows = [np.asarray(row)[: self.num_steps] for row in array[: self.num_histories]]
        shapes = {row.shape for row in rows}
        require(len(shapes) == 1, f"{where}: {name}: shapes", sorted(shapes), "one for all histories")
        return np.stack(rows)


@dataclasses.dataclass(frozen=True)
class _Fetch:
    """The records at positions."""

    form: _Form
    spec: EnvSpec
    obs_dtype: np.dtype  # of all tasks

    def __call__(self, positions: np.ndarray) -> dict[str, np.ndarray]:
        parts = []
        for at in map(int, positions):
            fields = checked(self.form.of_task(at), self.spec, self.form.tasks.where(at))
            parts.append(fields | {name: fields[name].astype(self.obs_dtype) for name in ("obs", "next_obs")})
        return {name: np.stack([part[name] for part in parts]) for name in parts[0]}
