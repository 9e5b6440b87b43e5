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
from icrl.datasets._checks import ACTIONS, LARGEST, NAMES, NEEDED, NEXT, PROPENSITIES, checked, kept_dtype
from icrl.datasets._tasks import REFUSE, UNEQUAL, Episodes, Form, Survey, Tasks, episodes_of, form_of, survey_of
from icrl.datasets.histories import RECORDED
from icrl.datasets.store import COUNT, StoredRecords, store_records
from icrl.envs._recorded import RecordedEnvironment
from icrl.storage.publish import discard_folder

FOREIGN = "foreign"  # key of the card that says where a set comes from
FLOAT, COPIES = 4, 4  # bytes of a number; times that a task is in memory while it is checked and written
SHARD_BYTES = 2**27  # of records in a shard, about, and so in memory
SEGMENTS = 20  # that filters see of a history in which no episode ends


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
    survey = tasks.survey or (lambda at: survey_of(tasks.read(at), tasks.where(at)))
    each, said = [survey(at) for at in range(len(tasks.ids))], list(assumed)
    form, with_chances = form_of(tasks, each, unequal, said), [PROPENSITIES in one.names for one in each]
    if any(with_chances) and not all(with_chances):
        place = tasks.where(with_chances.index(False))
        require(False, f"{place}: {PROPENSITIES}", "nothing", "an array, as other tasks have one")
    episodes = episodes_of(form, each)
    known = spec or _spec(each[0], num_actions or _most(each, said), nvec_of, episodes, origin)
    limit, hint = known.max_steps_in_episode, "H, or the flags, are wrong"
    longest = episodes.longest
    require(longest <= limit, "episodes", f"{longest} steps without a flag", f"at most H = {limit}", hint)
    if not all(NEXT in one.names for one in each):
        said.append("next observations made by shifting: at the end of an episode the observation itself is repeated")
    said.append("no optimum is known: filters take the best return of a task for it")
    dtypes = {kept_dtype(one.obs_dtype) for one in each}
    fetch = _Fetch(form, known, dtypes.pop() if len(dtypes) == 1 else np.dtype(np.float32))
    segment = longest if episodes.some_end else max(1, form.num_steps // SEGMENTS)
    ids = [int(number) for number in tasks.ids]
    return Found(known, ids, form.num_histories, form.num_steps, segment, fetch, source, origin or {}, tuple(said))


def _most(each: list[Survey], said: list[str]) -> int:
    """K as the data have it."""
    num_actions = 1 + max(one.most for one in each)
    said.append(f"K = {num_actions} actions, one more than the largest number seen")
    return num_actions


def _spec(
    first: Survey,
    num_actions: int,
    nvec_of: Callable[[tuple[int, ...]], tuple[int, ...]],
    episodes: Episodes,
    origin: Mapping[str, Any] | None,
) -> EnvSpec:
    """What the data tell of their environment; the range of its observations is theirs in the first task."""
    shape, name = first.obs_shape or (1,), str((origin or {}).get("env") or RECORDED)
    low, high = (float(np.clip(end, -LARGEST, LARGEST)) for end in (first.low, first.high))
    early = episodes.shortest < episodes.longest
    return EnvSpec(name, num_actions, shape, low, high, episodes.longest, nvec_of(shape), ends_early=early)


def _made_by(card: dict[str, Any]) -> dict[str, Any]:
    """A card without what the store adds to it."""
    return {name: value for name, value in card.items() if name not in ("shard_tasks", "format", COUNT)}


@dataclasses.dataclass(frozen=True)
class _Fetch:
    """The records at positions."""

    form: Form
    spec: EnvSpec
    obs_dtype: np.dtype  # of all tasks

    def __call__(self, positions: np.ndarray) -> dict[str, np.ndarray]:
        parts = []
        for at in map(int, positions):
            fields = checked(self.form.of_task(at), self.spec, self.form.tasks.where(at))
            parts.append(fields | {name: fields[name].astype(self.obs_dtype) for name in ("obs", "next_obs")})
        return {name: np.stack([part[name] for part in parts]) for name in parts[0]}
