"""Learning histories: the complete training runs of learners in many tasks, generated on the device, kept on disk.

A record is all that one task left behind: R histories of T transitions, made by one or several sources (``Part``).
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from icrl.core.devices import host_workers
from icrl.core.errors import DamagedError, IncompleteError, InputError, require, require_int
from icrl.core.interact import interact
from icrl.core.precision import in_32_bits
from icrl.core.registry import environments
from icrl.core.seeding import key_for, keys_for
from icrl.core.settings import replaced
from icrl.core.tasks import TaskSet
from icrl.core.types import Agent, Array, Environment, History
from icrl.datasets._episodes import returns_between_flags, shortest_episode
from icrl.datasets.store import StoredRecords, store_records
from icrl.envs._recorded import RecordedEnvironment
from icrl.envs._streams import Streams
from icrl.filters._table import HistoryTable
from icrl.storage.paths import show
from icrl.storage.typed import conform

STEPS_AT_ONCE = 2**21  # transitions made in one call, about, and so what it takes in memory
SHARD_STEPS = STEPS_AT_ONCE  # in a shard, about
LEARNERS = 5  # that learn in parallel streams, side by side on a CPU core: their networks stay in its caches
CALLS = 4  # at least, that make a set of tasks, so that several cores have work
LIVES = 1024  # of independent learners, side by side on a CPU core


class Part(NamedTuple):
    """``num_histories`` of the R histories of each task."""

    source: Agent  # built for the environment, or with ``shared`` for ``Streams(environment, num_histories)``
    num_histories: int
    shared: bool = False  # one learner acting in as many parallel streams, instead of independent ones


@dataclasses.dataclass(frozen=True, eq=False)
class HistoryGenerator:
    """Histories of T = ``num_steps`` transitions in the tasks ``task_ids`` [N].

    They are the numbers of tasks of a finite family or, with ``drawn``, of the stream of tasks of that name, drawn from
    the prior. A history is a function of (seed, task id, part, its place in the part), whatever else is made with it.
    """

    env: Environment
    parts: tuple[Part, ...]
    num_steps: int
    task_ids: np.ndarray
    seed: int
    drawn: str = ""  # purpose of the stream of tasks

    def __post_init__(self) -> None:
        require_int("history_steps", self.num_steps, 1, 2**24)
        require(len(self.parts) > 0, "parts", self.parts, "at least one source")
        for part in self.parts:
            require_int("histories", part.num_histories, 1, 2**20)

    @property
    def num_histories(self) -> int:
        """R, histories of each task."""
        return sum(part.num_histories for part in self.parts)

    def tasks(self, positions: np.ndarray) -> TaskSet:
        """The tasks at ``positions`` of ``task_ids``."""
        ids = np.asarray(self.task_ids)[positions]
        return TaskSet.of(self.env, ids) if not self.drawn else TaskSet.draw_ids(self.env, self.seed, self.drawn, ids)

    def fetch(self, positions: np.ndarray) -> dict[str, np.ndarray]:
        """The records at ``positions`` [n] of ``task_ids``: the fields of a history, [n, R, T, ...] each.

        On a CPU a few tasks at a time on every core, the last few filled up, so that nothing recompiles.
        """
        positions = np.asarray(positions)
        size = self._side_by_side or positions.size
        groups = np.resize(positions, (-(-positions.size // size), size))
        with ThreadPoolExecutor(host_workers()) as pool:
            parts = list(pool.map(self._together, groups))
        return {name: np.concatenate([part[name] for part in parts])[: positions.size] for name in parts[0]}

    @property
    def _side_by_side(self) -> int:
        """Tasks whose histories are made in one call, 0 for all: always as many, as the last bits depend on it."""
        if jax.default_backend() != "cpu":
            return 0
        shared = any(part.shared for part in self.parts)
        wanted = LEARNERS if shared else min(-(-LIVES // self.num_histories), -(-len(self.task_ids) // CALLS))
        return max(1, min(wanted, STEPS_AT_ONCE // (self.num_steps * self.num_histories)))

    def _together(self, positions: np.ndarray) -> dict[str, np.ndarray]:
        tasks = self.tasks(positions)
        return {name: np.asarray(field) for name, field in self._generate(tasks.params, tasks.ids)._asdict().items()}

    @functools.partial(jax.jit, static_argnames=("self",))
    def _generate(self, params: Any, ids: Array) -> History:
        parts = [self._part(number, part, params, ids) for number, part in enumerate(self.parts)]
        return jax.tree.map(lambda *fields: jnp.concatenate(fields, axis=1), *parts)

    def _part(self, number: int, part: Part, params: Any, ids: Array) -> History:
        """History [n, R, T, ...] of one part."""
        keys = keys_for(key_for(self.seed, "histories", number), ids)
        env = Streams(self.env, part.num_histories) if part.shared else self.env

        def live(key: Array, task: Any) -> History:
            return interact(key, env, task, part.source, self.num_steps).history

        if part.shared:
            return jax.tree.map(lambda field: jnp.swapaxes(field, 1, 2), jax.vmap(live)(keys, params))
        each = jax.vmap(keys_for, in_axes=(0, None))(keys, jnp.arange(part.num_histories))
        return jax.vmap(jax.vmap(live, in_axes=(0, None)))(each, params)


def store_collected(
    folder: Path, generator: HistoryGenerator, card: dict[str, Any], segment: int | None = None
) -> None:
    """Write the histories of all tasks of ``generator`` under ``folder``; see ``store_records``.

    Filters see returns of ``segment`` steps each: by default an episode. In a bandit, whose one episode is the whole
    history, a part of it serves.
    """
    horizon = generator.env.spec.max_steps_in_episode
    segment = horizon if segment is None else segment
    tasks = generator.tasks(np.arange(len(generator.task_ids)))
    optimal = np.asarray(
        jax.vmap(in_32_bits(generator.env.optimal_return), axis_size=len(tasks))(tasks.params), np.float64
    )
    optimal = optimal if segment == horizon else optimal * (segment / horizon)
    full_card = {
        **card,
        "num_steps": generator.num_steps,
        "episode_steps": segment,
        "task_ids": np.asarray(generator.task_ids).tolist(),
        "optimal_return": optimal.tolist() if generator.env.spec.knows_optimum else None,
    }
    shard_tasks = max(1, SHARD_STEPS // (generator.num_steps * generator.num_histories))
    store_records(folder, generator.fetch, len(generator.task_ids), full_card, shard_tasks)


def episodes(history: History) -> list[History]:
    """``history`` [T, ...] in NumPy, cut behind every step that ended an episode; the last part may be unfinished."""
    ends = np.flatnonzero(history.terminated | history.truncated) + 1
    cuts = np.unique([0, *ends, len(history.action)])
    return [History(*(field[low:high] for field in history)) for low, high in itertools.pairwise(cuts)]


_CARD = {"num_steps": int, "episode_steps": int, "task_ids": [int], "optimal_return": ([float], None)}
PROPENSITY = "propensity"  # how likely each action was, where a log says so: one field more than a history has
RECORDED = "recorded"  # id on the card of an environment that is not here
_KINDS = {"action": "iu", "terminated": "biu", "truncated": "biu"}  # of dtypes; other fields: any number


def is_foreign(card: dict[str, Any]) -> bool:
    """Whether the card of a set says that it was recorded elsewhere."""
    env = card.get("env")
    return isinstance(env, dict) and env.get("id") == RECORDED


def recorded_environment(card: dict[str, Any], where: str) -> RecordedEnvironment:
    """What the card of a foreign set says of its environment; ``DamagedError`` if that can mean none."""
    try:
        settings = {name: value for name, value in card["env"].items() if name != "id"}
        return replaced(RecordedEnvironment(), settings)
    except InputError as error:
        raise DamagedError(f"{where}: card: env: {error}") from error


class StoredHistories(StoredRecords):
    """Histories on disk. Row n = task position x R + place in the task; N rows in all."""

    def __init__(self, folder: Path | str, verify: bool = True):
        super().__init__(folder, verify)
        found = ", ".join(self.fields)
        are_histories = self.fields.keys() - {PROPENSITY} == set(History._fields)
        require(are_histories, "data", str(folder), "learning histories", f"its records are of {found}")
        self.num_histories, self.num_steps = self._check_forms()

    def _check_forms(self) -> tuple[int, int]:
        """(R, T), once the fields and the card are known to speak of the same histories."""
        where = show(self.folder)
        conform(self.card, _CARD, f"{where}: card")
        leading, steps = list(self.fields["reward"]["shape"]), self.card["num_steps"]
        inner, action = self.fields["obs"]["shape"][2:], self.fields["action"]["shape"][2:3]  # of an action: [] or [A]
        for name, form in self.fields.items():
            more = inner if name.endswith("obs") else action if name == "action" else []
            shape, kind = leading + more, np.dtype(form["dtype"]).kind
            kinds = {**_KINDS, "action": "f"} if action else _KINDS
            if form["shape"] != shape or len(leading) != 2 or kind not in kinds.get(name, "fiub"):
                raise DamagedError(f"{where}: {name}: expected numbers [R, T, ...] like the others, found {form}")
        tasks, wanted = self.num_tasks, len(self.card["task_ids"])
        if tasks < wanted:
            raise IncompleteError(f"{where}: incomplete: {tasks:,} of {wanted:,} tasks; go on with its collection")
        for name in ("task_ids", "optimal_return"):
            size = tasks if self.card[name] is None else len(self.card[name])
            if size != tasks:
                raise DamagedError(f"{where}: card: {name}: expected {tasks} of them, one a task, found {size}")
        if leading[1] != steps or not 1 <= self.card["episode_steps"] <= 2**31 or leading[0] < 1:
            raise DamagedError(f"{where}: card: num_steps and episode_steps do not fit histories of shape {leading}")
        return leading[0], steps

    @property
    def env_id(self) -> str | None:
        """The registered name of the environment on the card (which tells its class), None if it is not registered."""
        env = self.card.get("env")
        family = env.get("id") if isinstance(env, dict) else None
        return next((name for name in environments if environments[name].__name__ == family), None)

    def environment(self) -> Environment | None:
        """The environment of the histories, or what is recorded of it; None if the card names no known one."""
        if self.is_foreign:
            return recorded_environment(self.card, show(self.folder))
        if self.env_id is None:
            return None
        settings = {name: value for name, value in self.card["env"].items() if name != "id"}
        return replaced(environments[self.env_id](), settings)

    @property
    def is_foreign(self) -> bool:
        """Whether they were recorded elsewhere, in an environment of which only the spaces are known."""
        return is_foreign(self.card)

    @functools.cached_property
    def optimal_return(self) -> np.ndarray:
        """The optimum of each task [N] float64; where the card knows none, the best return of its histories."""
        if self.card["optimal_return"] is not None:
            return np.asarray(self.card["optimal_return"], np.float64)
        return self.episode_returns().reshape(self.num_tasks, -1).max(1)

    def of_task(self, position: int) -> list[History]:
        """The R histories of the task at ``position`` in the set, in NumPy, [T, ...] each."""
        record = self.fetch(np.array([position]))
        return [History(*(record[name][0, place] for name in History._fields)) for place in range(self.num_histories)]

    def propensities(self, position: int) -> np.ndarray:
        """How likely each action of the task at ``position`` was, [R, T] float32; ``InputError`` if no log said so."""
        hint = "import a log with a column of propensities"
        require(PROPENSITY in self.fields, "data", str(self.folder), "histories with propensities", hint)
        found: np.ndarray = self.fetch(np.array([position]))[PROPENSITY][0]
        return found

    def table(self, count: int | None = None) -> HistoryTable:
        """What filters look at: the episode returns of each history and the limits of its task.

        Of the first ``count`` histories of each task; None: of all.
        """
        count = self.num_histories if count is None else count
        returns = self.episode_returns(count)
        task = np.repeat(np.asarray(self.card["task_ids"], np.int64), count)
        optimal = np.repeat(self.optimal_return, count)
        lowest = np.minimum(returns.reshape(self.num_tasks, -1).min(1), 0.0)  # below 0 only where rewards are noisy
        return HistoryTable(task, returns, optimal, np.repeat(lowest, count))

    def episode_returns(self, count: int | None = None) -> np.ndarray:
        """R_k of every whole episode of those histories, [N, E] float64, an incomplete last one is dropped.

        Where some episode is shorter than ``episode_steps`` of the card, episodes are cut at their flags, and R_k is
        the mean return of those that ended in the k-th stretch of so many steps, or of the one that ended last before
        it. Rewards are read shard by shard; the whole of a set is never in memory.
        """
        episode = self.card["episode_steps"]
        whole = self.num_steps // episode * episode
        count = self.num_histories if count is None else count
        cut = any(shortest_episode(ends, self.num_steps) < episode for ends in self._ends())
        returns, low = np.empty((self.num_tasks, count, whole // episode)), 0
        for shard, ends in zip(self.shards(), self._ends(), strict=True):
            reward = shard["reward"][:, :count, :whole]
            high = low + len(reward)
            if cut:
                flags = np.broadcast_to(ends, shard["reward"].shape)[:, :count, :whole]
                returns[low:high] = returns_between_flags(reward, flags, episode)
            else:
                reward.reshape(*reward.shape[:2], -1, episode).sum(-1, dtype=np.float64, out=returns[low:high])
            low = high
        return returns.reshape(-1, whole // episode)

    def _ends(self) -> Iterator[np.ndarray]:
        """Shard after shard, which steps ended an episode, [tasks, R, T] or 1 along axes where they are all alike."""
        for number in range(len(self._shards)):
            terminated, truncated = (self.stored_form(number, name) for name in ("terminated", "truncated"))
            yield (terminated != 0) | (truncated != 0)
