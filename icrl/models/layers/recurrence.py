"""Linear recurrences over time, with the form that a platform runs fastest chosen in this one place.

Letters: T steps, C steps of a chunk. ``start`` [T] bool marks steps that forget everything before them. As b_t does
not depend on the past, a start is the same as a_t = 0; the resettable operator of Lu et al. 2023 (equation 4) computes
that with a third element, and agrees.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from icrl.core.types import Array

CHUNK = 256  # steps whose states are kept for the gradient at a time; longer sequences are computed twice
WIDE_CHUNK = 1024  # the same of small states where chunks are scanned in parallel: S5 is 2.6 times as fast on an H200
SMALL_STATE = 1024  # numbers
METHOD: str | None = None  # "scan" or "associative" for all platforms (the tests); None: by platform

Chunk = Callable[[Any, Any], tuple[Any, Any]]


def method() -> str:
    """A plain scan on a CPU, where a parallel one only does more work; elsewhere the associative scan."""
    return METHOD or ("scan" if jax.default_backend() == "cpu" else "associative")


def in_chunks(advance: Chunk, carry: Any, inputs: Any, size: int) -> tuple[Any, Any]:
    """Fold ``advance(carry, inputs [C, ...]) -> (carry, outputs [C, ...])`` over ``inputs`` [T, ...] in chunks.

    All chunks are of ``size`` but a shorter last one. The gradient keeps the carries between chunks and computes the
    insides of a chunk again, so memory grows with T only by inputs, outputs and T / size carries.
    """
    length = jax.tree.leaves(inputs)[0].shape[0]
    if length <= size:
        return advance(carry, inputs)
    whole = length - length % size
    head = jax.tree.map(lambda x: x[:whole].reshape(-1, size, *x.shape[1:]), inputs)
    carry, outputs = jax.lax.scan(jax.checkpoint(advance), carry, head)
    outputs = jax.tree.map(lambda y: y.reshape(whole, *y.shape[2:]), outputs)
    if whole == length:
        return carry, outputs
    carry, rest = advance(carry, jax.tree.map(lambda x: x[whole:], inputs))
    return carry, jax.tree.map(lambda y, z: jnp.concatenate([y, z]), outputs, rest)


class DiagonalRecurrence:
    """h_t = a_t h_{t-1} + b_t, elementwise, with the states of one chunk in memory at a time."""

    def __init__(self, expand: Callable[[Any], tuple[Array, Array]], read: Callable[[Array, Any], Array]):
        """Make it from ``expand(inputs_t) -> (a_t, b_t)``, that broadcast to h, and ``read(h_t, inputs_t) -> y_t``."""
        self.expand, self.read = expand, read

    def __call__(self, inputs: Any, start: Array, h: Array) -> tuple[Array, Array]:
        """Outputs y [T, ...] and the last state, from ``inputs`` [T, ...], ``start`` [T] and the state ``h`` before.

        The recurrence runs in the type of ``h``.
        """
        parallel = method() == "associative"
        size = WIDE_CHUNK if parallel and h.size <= SMALL_STATE else CHUNK
        h, y = in_chunks(self._associative if parallel else self._scan, h, (inputs, start), size)
        return y, h

    def _step(self, h: Array, item: tuple[Any, Array]) -> tuple[Array, Array]:
        inputs, start = item
        a, b = self.expand(inputs)
        h = jnp.where(start, 0, a.astype(h.dtype) * h) + b.astype(h.dtype)
        return h, self.read(h, inputs)

    def _scan(self, h: Array, chunk: tuple[Any, Array]) -> tuple[Array, Array]:
        return jax.lax.scan(self._step, h, chunk)

    def _associative(self, h: Array, chunk: tuple[Any, Array]) -> tuple[Array, Array]:
        inputs, start = chunk
        a, b = jax.vmap(self.expand)(inputs)
        shape = (start.shape[0], *h.shape)
        forget = start.reshape(-1, *[1] * h.ndim)
        a = jnp.where(forget, 0, jnp.broadcast_to(a.astype(h.dtype), shape))
        b = jnp.broadcast_to(b.astype(h.dtype), shape)
        decay, reached = jax.lax.associative_scan(_compose, (a, b))
        states = decay * h[None] + reached
        return states[-1], jax.vmap(self.read)(states, inputs)


def _compose(first: tuple[Array, Array], second: tuple[Array, Array]) -> tuple[Array, Array]:
    """(a_i, b_i), then (a_j, b_j): (a_j a_i, a_j b_i + b_j)."""
    return second[0] * first[0], second[0] * first[1] + second[1]
