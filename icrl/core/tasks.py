"""TaskSet: a stacked ``params`` pytree with its provenance. Train, test and shifted tasks are sets of one family."""

import dataclasses
import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from icrl.core import struct
from icrl.core.errors import InputError, require, require_int
from icrl.core.precision import in_32_bits
from icrl.core.seeding import key_for, keys_for
from icrl.core.types import Array, Environment, TaskParams

MAX_TASKS = 2**31 - 1
MAX_STEPS = 2**24  # of an episode


@struct.dataclass
class TaskSet:
    """N tasks: ``params`` has a leading axis [N] on every leaf; ``ids`` [N] uint32 name them under their key."""

    params: Any
    ids: Array  # [N] uint32

    @classmethod
    def draw(cls, env: Environment, seed: int, purpose: str, num_tasks: int, first_id: int = 0) -> "TaskSet":
        """Draw tasks ``first_id .. first_id + num_tasks - 1`` of the stream (seed, purpose) from the prior."""
        num_tasks = require_int("num_tasks", num_tasks, 1, MAX_TASKS)
        first_id = require_int("first_id", first_id, 0, MAX_TASKS - num_tasks)
        return cls.draw_ids(env, seed, purpose, jnp.arange(first_id, first_id + num_tasks, dtype=jnp.uint32))

    @classmethod
    def draw_ids(cls, env: Environment, seed: int, purpose: str, ids: Any) -> "TaskSet":
        """The tasks ``ids`` [N] of the same stream."""
        numbers = jnp.asarray(ids, jnp.uint32)
        return cls(sample_tasks(env, key_for(seed, purpose), numbers), numbers)

    @classmethod
    def of(cls, env: Any, indices: Any) -> "TaskSet":
        """Tasks by number, in the given order, from a family that numbers its tasks."""
        require(env.num_tasks is not None, "env", type(env).__name__, "a family that numbers its tasks")
        try:
            found = np.asarray(indices)
        except ValueError:  # rows of different lengths
            found = np.empty((), object)
        is_list = found.ndim == 1 and found.size > 0 and np.issubdtype(found.dtype, np.integer)
        require(is_list, "indices", f"shape {found.shape} of {found.dtype}", "a list of one or more task numbers")
        for wrong in found[(found < 0) | (found >= env.num_tasks)][:1].tolist():
            require_int("indices", wrong, 0, env.num_tasks - 1)
        return cls(jax.vmap(env.task)(jnp.asarray(found, jnp.int32)), jnp.asarray(found, jnp.uint32))

    def __len__(self) -> int:
        return self.ids.shape[0]

    def __getitem__(self, index: Any) -> "TaskSet":
        """A subset by slice, by integers [M] in -N .. N - 1 or by a mask [N] bool; one integer gives a set of one.

        A slice is cut to the set as Python does it; any other index outside raises ``InputError``. Traced ones are
        clamped, as jax does it.
        """
        if not isinstance(index, (slice, jax.core.Tracer)):
            index = self._checked_index(index)
        try:
            return jax.tree.map(lambda leaf: leaf[index], self)
        except TypeError as error:  # a slice between what are no integers
            raise InputError(f"index: got {index!r}, allowed: a slice of integers") from error

    def _checked_index(self, index: Any) -> Any:
        """Integers [M] or a mask [N]."""
        allowed = f"integers in [{-len(self)}, {len(self) - 1}], or a mask of {len(self)} booleans"
        try:
            array = np.asarray(index)
        except ValueError:  # a ragged list
            array = np.empty((), object)
        is_mask = array.dtype == bool and array.shape == (len(self),)
        is_list = array.dtype.kind in "iu" and array.ndim <= 1
        require(is_mask or is_list, "index", index, allowed)
        if is_list:
            for wrong in array[(array < -len(self)) | (array >= len(self))].ravel()[:1].tolist():
                require(False, "index", wrong, allowed)
        return np.atleast_1d(array)

    def split(self, num_first: int) -> tuple["TaskSet", "TaskSet"]:
        """The first ``num_first`` tasks and the rest, both non-empty."""
        num_first = require_int("num_first", num_first, 1, len(self) - 1)
        return self[:num_first], self[num_first:]

    def repeat(self, each: int) -> "TaskSet":
        """Every task ``each`` times in a row, every copy with an id, and so with draws, of its own."""
        each = require_int("each", each, 1, MAX_TASKS // len(self))
        params = jax.tree.map(lambda leaf: jnp.repeat(leaf, each, axis=0), self.params)
        return TaskSet(params, jnp.arange(len(self) * each, dtype=jnp.uint32))

    def digests(self) -> list[str]:
        """A digest of each task's parameters, to prove that two sets share no task."""
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(self.params)]
        rows = (b"".join(leaf[i].tobytes() for leaf in leaves) for i in range(len(self)))
        return [hashlib.sha256(row).hexdigest() for row in rows]


@in_32_bits
def sample_tasks(env: Environment, key: Array, ids: Array) -> Any:
    """Stacked tasks for ids [N] under ``key``; traceable, so a pretraining stream can call it inside ``jit``."""
    return jax.vmap(env.sample_task)(keys_for(key, ids))


def require_like_drawn(env: Environment, params: TaskParams) -> None:
    """Refuse ``params`` that are no task of ``env``'s class and shapes, or hold a number that is not finite."""
    expected = jax.eval_shape(env.sample_task, jax.random.key(0))
    require(type(params) is type(expected), "task", type(params).__name__, type(expected).__name__)
    for name, wanted in dataclasses.asdict(expected).items():
        found = np.asarray(getattr(params, name))
        if name == "max_steps_in_episode":
            require_int("task.max_steps_in_episode", params.max_steps_in_episode, 1, MAX_STEPS)
            continue
        require(found.shape == wanted.shape, f"task.{name}", found.shape, f"shape {wanted.shape}")
        require(bool(np.isfinite(found).all()), f"task.{name}", found.tolist(), "finite numbers")
