"""Sequences of examples for training and evaluation, drawn on the device; a sequence is a function of (seed, id)."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from icrl.core.errors import require_int
from icrl.core.precision import exact_products, in_32_bits
from icrl.core.seeding import key_for, keys_for
from icrl.core.types import Array
from icrl.datasets.contexts import MAX_POOL, drawn_of_pool
from icrl.envs._examples import ExampleFamily, Examples

READ_AT_ONCE = 16  # sequences that predictors over a pool read side by side: each holds a number for every task of it


class Framed(NamedTuple):
    """Sequences [N, ...] with what the two exact predictors say of them."""

    examples: Examples
    memorising: Array  # [N, K, ...]
    generalising: Array  # [N, K, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class ExampleGenerator:
    """Sequences of ``family``, each of a task of its own, or of one of a pool of ``pool_size`` tasks.

    The pool is the first tasks of the stream, drawn again and again with new examples; a smaller one is the beginning
    of a larger. ``sequences_per_task`` consecutive ids are of one task.
    """

    family: ExampleFamily
    seed: int
    purpose: str
    pool_size: int | None = None
    sequences_per_task: int = 1

    def __post_init__(self) -> None:
        require_int("sequences_per_task", self.sequences_per_task, 1, 2**20)
        if self.pool_size is not None:
            require_int("pool_size", self.pool_size, 1, MAX_POOL)

    def pool(self) -> Any:
        """The tasks of the pool, stacked [M, ...]."""
        return self._tasks(jnp.arange(self.pool_size or 0, dtype=jnp.uint32))

    def batch(self, step: int, batch_size: int) -> Examples:
        """The sequences [batch_size, ...] of training step ``step``, from 0; none comes twice."""
        return self.fetch((step * batch_size + np.arange(batch_size, dtype=np.int64)).astype(np.uint32), "train")

    def fetch(self, ids: np.ndarray, purpose: str = "") -> Examples:
        """The sequences of ``ids`` [B] uint32, and under another ``purpose`` others in the same pool."""
        return self._generate(jnp.asarray(ids, jnp.uint32), purpose)

    @functools.partial(jax.jit, static_argnames=("self",))
    @in_32_bits
    def _tasks(self, ids: Array) -> Any:
        return jax.vmap(self.family.sample_task)(keys_for(key_for(self.seed, f"{self.purpose}/task"), ids))

    @functools.partial(jax.jit, static_argnames=("self", "purpose"))
    @in_32_bits
    @exact_products
    def _generate(self, ids: Array, purpose: str) -> Examples:
        stream = f"{self.purpose}/{purpose}"
        tasks = ids // self.sequences_per_task
        if self.pool_size is not None:
            tasks = drawn_of_pool(self.seed, stream, tasks, self.pool_size)
        keys = keys_for(key_for(self.seed, f"{stream}/examples"), ids)
        return jax.vmap(self.family.draw)(keys, self._tasks(tasks))


def framed(family: ExampleFamily, examples: Examples, pool: Any) -> Framed:
    """``examples`` [N, ...] with the predictions of the posteriors over ``pool`` and over the whole family."""
    return Framed(examples, *_predictions(family, examples, pool))


@functools.partial(jax.jit, static_argnames=("family",))
@in_32_bits
@exact_products
def _predictions(family: ExampleFamily, examples: Examples, pool: Any) -> tuple[Array, Array]:
    def both(one: Examples) -> tuple[Array, Array]:
        return family.memorising(pool, one), family.generalising(one)

    found: tuple[Array, Array] = jax.lax.map(both, examples, batch_size=READ_AT_ONCE)
    return found
