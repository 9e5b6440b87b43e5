"""DPT pretraining data: a context (a history in one task) with the optimal action as its label.

A context is a function of (seed, task id), so what training draws on the device as it goes and what a data set holds
on disk are the same data: generating is a pure function, storing is a cache.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, Self, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np

from icrl.core.errors import DamagedError, require, require_int
from icrl.core.interact import interact
from icrl.core.precision import exact_products, in_32_bits
from icrl.core.progress import Progress
from icrl.core.seeding import key_for, keys_for
from icrl.core.tasks import TaskSet
from icrl.core.types import Agent, Array, Contexts, Environment, History, Interaction
from icrl.datasets.store import SHARD_TASKS, StoredRecords, store_records
from icrl.storage.paths import show
from icrl.storage.typed import conform

MAX_POOL = 2**31 - 1
HELD_AT_ONCE = 2048  # contexts made in one call, when many are
TOGETHER = 8  # contexts of one source in a mixture are made in multiples: few shapes, few compilations


class ContextSource(Protocol):
    """Anything that has contexts by task id: a generator or a stored set."""

    @property
    def num_steps(self) -> int:
        """T, transitions in a context."""

    def fetch(self, ids: np.ndarray) -> Contexts:
        """The contexts of task ids [B] uint32; the same ids give the same contexts."""


@dataclasses.dataclass(frozen=True, eq=False)
class ContextGenerator:
    """Contexts of T = ``num_steps`` transitions, collected by ``source`` in tasks drawn from ``env``.

    Each context has a task of its own, or one of a pool: the first ``pool_size`` tasks of the stream, again and again
    with other histories. ``sequences_per_task`` consecutive ids are of one task.
    """

    env: Environment
    source: Agent
    num_steps: int
    seed: int
    purpose: str = "pretrain"
    sequences_per_task: int = 1
    pool_size: int | None = None

    def __post_init__(self) -> None:
        require_int("context_steps", self.num_steps, 1, 2**24)
        require_int("sequences_per_task", self.sequences_per_task, 1, 2**20)
        if self.pool_size is not None:
            require_int("pool_size", self.pool_size, 1, MAX_POOL)

    def pool(self) -> TaskSet:
        """The tasks of the pool."""
        return TaskSet.draw(self.env, self.seed, f"{self.purpose}/task", self.pool_size or 0)

    def fetch(self, ids: np.ndarray) -> Contexts:
        """The contexts of task ids [B] uint32, generated on the device in one jitted call."""
        return self._generate(jnp.asarray(ids, jnp.uint32))

    @functools.partial(jax.jit, static_argnames=("self",))
    def _generate(self, ids: Array) -> Contexts:
        return jax.vmap(self._context)(*self._keys(ids))

    def _keys(self, ids: Array) -> tuple[Array, Array]:
        """Keys [B] of the tasks and of the rollouts."""
        key_task, key_rollout = (key_for(self.seed, f"{self.purpose}/{part}") for part in ("task", "life"))
        tasks = ids // self.sequences_per_task
        tasks = tasks if self.pool_size is None else drawn_of_pool(self.seed, self.purpose, tasks, self.pool_size)
        return keys_for(key_task, tasks), keys_for(key_rollout, ids)

    def differs_in_stream(self, other: Any) -> bool:
        """Whether ``other`` makes the same contexts but for the stream, of seed and purpose, that it draws from."""
        if not isinstance(other, ContextGenerator) or type(self.source) is not type(other.source):
            return False
        (leaves, form), (others, its_form) = (jax.tree.flatten(each.source) for each in (self, other))
        same = (self.env, self.num_steps, form) == (other.env, other.num_steps, its_form)
        return same and all(map(np.array_equal, leaves, others))

    def _context(self, key_task: Array, key_rollout: Array) -> Contexts:
        return context_in(self.env, self.env.sample_task(key_task), self.source, self.num_steps, key_rollout)


def differ_in_stream(sources: Sequence[Any]) -> TypeGuard[Sequence[ContextGenerator]]:
    """Whether all are generators of the same contexts but for the streams that they draw from."""
    first, *others = sources
    return isinstance(first, ContextGenerator) and all(map(first.differs_in_stream, others))


def fetch_side_by_side(sources: Sequence[ContextGenerator], ids: np.ndarray) -> Contexts:
    """The contexts [S, B, ...] of ids [S, B] of S sources that ``differ_in_stream``, generated in one jitted call."""
    return _generate_all(tuple(sources), jnp.asarray(ids, jnp.uint32))


@functools.partial(jax.jit, static_argnames=("sources",))
def _generate_all(sources: tuple[ContextGenerator, ...], ids: Array) -> Contexts:
    keys = [source._keys(own) for source, own in zip(sources, ids, strict=True)]
    rows = jax.vmap(sources[0]._context)(*map(jnp.concatenate, zip(*keys, strict=True)))
    return jax.tree.map(lambda field: field.reshape(*ids.shape, *field.shape[1:]), rows)


def drawn_of_pool(seed: int, purpose: str, ids: Array, pool_size: int) -> Array:
    """Which task of a pool each of ``ids`` [B] of the stream (seed, purpose) is of, uniformly, [B] uint32."""
    keys = keys_for(key_for(seed, f"{purpose}/pool"), ids)
    return jax.vmap(lambda key: jax.random.randint(key, (), 0, pool_size, jnp.int32))(keys).astype(jnp.uint32)


@in_32_bits
@exact_products
def context_in(env: Environment, task: Any, source: Agent, num_steps: int, key: Array) -> Contexts:
    """One context (no batch axis) collected by ``source`` in ``task``; ``key`` is consumed."""
    return recorded_in(env, task, source, num_steps, key)[0]


@in_32_bits
@exact_products
def recorded_in(env: Environment, task: Any, source: Agent, num_steps: int, key: Array) -> tuple[Contexts, Interaction]:
    """The same context, and the rollout that it is of."""
    key_query, key_rollout = jax.random.split(key)
    lived = interact(key_rollout, env, task, source, num_steps)
    query, state = env.reset(key_query, task)
    return Contexts(lived.history, query[None], env.optimal_action(task, state)[None]), lived


@dataclasses.dataclass(frozen=True, eq=False)
class MixedContexts:
    """Contexts from several sources in turn: context i is that of source i % len(sources).

    A source that is listed twice makes twice as many. All make contexts of the same shape.
    """

    sources: tuple[ContextSource, ...]

    def __post_init__(self) -> None:
        lengths = {source.num_steps for source in self.sources}
        require(len(lengths) == 1, "sources", f"contexts of {sorted(lengths)} steps", "one or more of the same length")

    @property
    def num_steps(self) -> int:
        """T, transitions in a context."""
        return self.sources[0].num_steps

    def fetch(self, ids: np.ndarray) -> Contexts:
        """The contexts of ids [B] uint32, in their order."""
        turn, parts, places = np.asarray(ids) % len(self.sources), [], []
        for source in dict.fromkeys(self.sources):
            turns = [number for number, each in enumerate(self.sources) if each is source]
            places.append(np.flatnonzero(np.isin(turn, turns)))
            parts.append(_some(source, np.asarray(ids)[places[-1]]))
        return _in_order([part for part in parts if part is not None], np.argsort(np.concatenate(places)))


def _some(source: ContextSource, ids: np.ndarray) -> Contexts | None:
    """The contexts of ids [n] of one source, made in multiples of ``TOGETHER``, the surplus thrown away."""
    made = source.fetch(np.resize(ids, -(-ids.size // TOGETHER) * TOGETHER)) if ids.size else None
    return jax.tree.map(lambda field: field[: ids.size], made)


@jax.jit
def _in_order(parts: list[Contexts], order: Array) -> Contexts:
    """The rows of all parts, row n being row ``order[n]`` of them joined."""
    return jax.tree.map(lambda *fields: jnp.concatenate(fields)[order], *parts)


@dataclasses.dataclass(frozen=True, eq=False)
class HeldContexts:
    """Contexts of ids 0 .. N - 1, made once and held on the device: a finite data set without a folder."""

    contexts: Contexts  # [N, ...]

    @classmethod
    def of(cls, source: ContextSource, count: int) -> Self:
        """The first ``count`` contexts of ``source``."""
        size, made = min(HELD_AT_ONCE, count), []
        with Progress("making contexts", count, "contexts") as bar:
            for low in range(0, count, size):
                made.append(jax.block_until_ready(source.fetch(np.arange(low, low + size) % count)))
                bar.advance(min(size, count - low))
        return cls(jax.tree.map(lambda *fields: jnp.concatenate(fields)[:count], *made))

    @property
    def num_steps(self) -> int:
        """T, transitions in a context."""
        return self.contexts.history.action.shape[1]

    def fetch(self, ids: np.ndarray) -> Contexts:
        """The contexts of ids [B]; ``InputError`` for one that is not held."""
        require_int("context", int(ids.max(initial=0)), 0, self.contexts.label.shape[0] - 1)
        return _rows(self.contexts, ids.astype(np.int32))


@jax.jit
def _rows(contexts: Contexts, ids: Array) -> Contexts:
    return jax.tree.map(lambda field: field[ids], contexts)


@dataclasses.dataclass(frozen=True, eq=False)
class Batches:
    """Which contexts make up which training batch; a pure function of the step, so that a resumed run sees the same.

    With ``num_tasks`` None every batch holds tasks never seen before (ids count up). Otherwise batches walk through
    tasks 0 .. num_tasks - 1 in a new random order every epoch, as over a finite data set. ``shuffle`` permutes the
    transitions of each context afresh at every fetch (Lee et al. do, for all settings but the linear bandit); that is
    legitimate only when the source does not learn, because histories of a learner are not exchangeable. In a batch
    ``sequences_per_task`` contexts of each task stand side by side, as in its source.
    """

    contexts: ContextSource
    batch_size: int
    seed: int
    num_tasks: int | None = None
    shuffle: bool = False
    sequences_per_task: int = 1

    def __post_init__(self) -> None:
        require_int("batch_size", self.batch_size, 1, 2**20)
        whole = self.batch_size % self.sequences_per_task == 0
        require(
            whole, "batch_size", self.batch_size, f"a multiple of {self.sequences_per_task}, the contexts of a task"
        )
        if self.num_tasks is not None:
            require_int("pretrain_tasks", self.num_tasks, 1, MAX_POOL)

    def ids(self, step: int) -> np.ndarray:
        """Task ids [B] uint32 of the batch at ``step``."""
        position = step * self.batch_size + np.arange(self.batch_size, dtype=np.int64)
        if self.num_tasks is None:
            return position.astype(np.uint32)
        places, within = np.divmod(position, self.sequences_per_task)
        epochs, offsets = np.divmod(places, self.num_tasks)
        orders = [_epoch_order(self.seed, int(epoch), self.num_tasks) for epoch in epochs]
        tasks = np.array([order[offset] for order, offset in zip(orders, offsets, strict=True)], np.int64)
        return (tasks * self.sequences_per_task + within).astype(np.uint32)

    def __call__(self, step: int) -> Contexts:
        """The contexts of the batch at ``step``."""
        contexts = self.contexts.fetch(self.ids(step))
        if not self.shuffle:
            return contexts
        return contexts._replace(history=shuffle_time(key_for(self.seed, "shuffle", step), contexts.history))


@functools.lru_cache(maxsize=2)
def _epoch_order(seed: int, epoch: int, num_tasks: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(num_tasks)


@jax.jit
def shuffle_time(key: Array, history: History) -> History:
    """Permute the transitions of each row of history [B, T, ...], every row by its own random permutation."""
    order = jnp.argsort(jax.random.bits(key, history.reward.shape, jnp.uint32), axis=1)
    return jax.tree.map(lambda field: jax.vmap(jnp.take, in_axes=(0, 0, None))(field, order, 0), history)


@dataclasses.dataclass(frozen=True, eq=False)
class OnlyHistories:
    """The histories of contexts alone, for objectives that predict what was done in them."""

    contexts: Callable[[int], Contexts]

    def __call__(self, step: int) -> History:
        """The histories of the batch at ``step``."""
        return self.contexts(step).history


@dataclasses.dataclass(frozen=True, eq=False)
class ChosenContexts:
    """Some contexts of a source as a source: id i is that of ``chosen[i]``."""

    contexts: ContextSource
    chosen: np.ndarray  # [M] ids

    @property
    def num_steps(self) -> int:
        """T, transitions in a context."""
        return self.contexts.num_steps

    def fetch(self, ids: np.ndarray) -> Contexts:
        """The contexts of ids [B] in 0 .. M - 1."""
        return self.contexts.fetch(self.chosen[np.asarray(ids, np.int64)])


def store_contexts(
    folder: Path, contexts: ContextSource, num_tasks: int, card: dict[str, Any], shard_tasks: int = SHARD_TASKS
) -> None:
    """Write the contexts of tasks 0 .. num_tasks - 1 under ``folder``; see ``store_records``."""
    full_card = {**card, "num_steps": contexts.num_steps}
    store_records(folder, lambda ids: _fields(contexts.fetch(ids)), num_tasks, full_card, shard_tasks)


def _fields(contexts: Contexts) -> dict[str, Array]:
    return {**contexts.history._asdict(), "query": contexts.query, "label": contexts.label}


class StoredContexts(StoredRecords):
    """Contexts on disk, fetched as the generator would make them."""

    def __init__(self, folder: Path | str, verify: bool = True):
        super().__init__(folder, verify)
        found = ", ".join(self.fields)
        are_contexts = self.fields.keys() == {*History._fields, "query", "label"}
        require(are_contexts, "data", str(folder), "contexts", f"its records are of {found}")
        conform(self.card, {"num_steps": int}, f"{show(self.folder)}: card")
        shapes = {name: form["shape"] for name, form in self.fields.items()}
        steps, inner, queries = [self.card["num_steps"]], shapes["obs"][1:], shapes["label"][:1]
        action = shapes["action"][1:2]  # [] or [A]
        expected = dict.fromkeys(History._fields, steps) | {"query": [*queries, *inner]}
        expected |= {"label": [*queries, *action], "action": [*steps, *action]}
        expected |= {"obs": [*steps, *inner], "next_obs": [*steps, *inner]}
        wrong = sorted(name for name, shape in shapes.items() if shape != expected[name] or len(shapes["label"]) == 0)
        if wrong:
            raise DamagedError(
                f"{show(self.folder)}: {wrong[0]}: its shape {shapes[wrong[0]]} is not that of a context"
            )

    @classmethod
    def made_as(cls, folder: str, card: dict[str, Any]) -> Self:
        """The set in ``folder``, refused unless ``card`` tells how it was made; its seed alone may be another."""
        stored = cls(folder)
        wrong = sorted(name for name in card if name != "seed" and stored.card.get(name) != card[name])
        require(not wrong, "data", folder, f"contexts of this experiment; {', '.join(wrong)} differ")
        return stored

    @property
    def num_steps(self) -> int:
        """T, transitions in a context."""
        return int(self.fields["action"]["shape"][0])

    def fetch(self, ids: np.ndarray) -> Contexts:  # type: ignore[override]
        """The contexts of task ids [B]."""
        fields = {name: jnp.asarray(field) for name, field in super().fetch(ids).items()}
        query, label = fields.pop("query"), fields.pop("label")
        return Contexts(History(**fields), query, label)
