"""Memories that are matrices, S [heads, d_k, d_v], written by outer products and read by queries, chunk by chunk.

S_t = a_t S_{t-1} + k_t v_t^T, o_t = S_t^T q_t with a scalar 0 < a_t <= 1 a head (linear attention: a = 1). Inside
a chunk of C steps all is matrix products, and only S passes between chunks (Dao, Gu 2024, section 6). C = 1: a step.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from icrl.core.types import Array
from icrl.models.layers.recurrence import in_chunks

CHUNK = 64  # C: quadratic work inside, one carried state between


class Decay(NamedTuple):
    """How much of what was written survives until it is read, within a chunk of C steps; 0 over a start."""

    between: Array  # [H, C, C]: written at j, read at i >= j; 0 above the diagonal
    since_before: Array  # [H, C]: what the chunk found, read at i


class LogDecay(NamedTuple):
    """Logarithms of a chunk's decays where there are any; masks say where."""

    between: Array  # [H, C, C]: from j to i
    visible: Array  # [C, C] bool: j is not later than i and no start in between
    since_before: Array  # [H, C]
    unbroken: Array  # [C] bool: no start up to i


def log_decays(log_a: Array, start: Array) -> LogDecay:
    """Logarithms of the decays of a chunk from log a [C, H] <= 0 and start [C].

    Sums of log a over (j, i] are cumulative sums of masked terms, which keeps their relative accuracy; starts are a
    mask of their own and never a very negative log a.
    """
    length, segment = start.shape[0], jnp.cumsum(start)
    time = jnp.arange(length)
    later = time[:, None] > time[None, :]  # [i, j]: i after j
    between = jnp.cumsum(jnp.where(later, log_a.T[:, :, None], 0.0), axis=1)
    visible = (time[:, None] >= time[None, :]) & (segment[:, None] == segment[None, :])
    return LogDecay(between, visible, jnp.cumsum(log_a.T, axis=1), segment == 0)


def decays(log_a: Array, start: Array) -> Decay:
    """The decays of a chunk from log a [C, H] <= 0 and start [C]."""
    log = log_decays(log_a, start)
    between = jnp.where(log.visible, jnp.exp(jnp.where(log.visible, log.between, 0.0)), 0.0)
    return Decay(between, jnp.where(log.unbroken, jnp.exp(log.since_before), 0.0))


def gated_memory(q: Array, k: Array, v: Array, log_a: Array, start: Array, S: Array) -> tuple[Array, Array]:
    """Outputs o [T, H, d_v] and the memory afterwards.

    Args:
      q, k: [T, H, d_k], or [T, 1, d_k] when all heads share them; v: [T, H, d_v].
      log_a: [T, H], at most 0.
      start: [T] bool.
      S: [H, d_k, d_v], the memory before; its type is that of the computation.
    """
    items = jax.tree.map(lambda x: x.astype(S.dtype), (q, k, v, log_a))
    S, o = in_chunks(_advance, S, (*items, start), CHUNK)
    return o, S


def _advance(S: Array, chunk: tuple[Array, ...]) -> tuple[Array, Array]:
    q, k, v, log_a, start = chunk
    decay = decays(log_a, start)
    o = read(q, k, v, decay, S)
    return after(k, v, decay, S), o


def read(q: Array, k: Array, v: Array, decay: Decay, S: Array) -> Array:
    """What q [C, H, d_k] finds of the writes (k, v) of its own chunk and of S before it, [C, H, d_v]."""
    weights = jnp.einsum("ihk,jhk->hij", q, k) * decay.between
    found = jnp.einsum("hij,jhv->ihv", weights, v)
    return found + jnp.einsum("ihk,hkv->ihv", q * decay.since_before.T[..., None], S)


def after(k: Array, v: Array, decay: Decay, S: Array) -> Array:
    """The memory behind a chunk of writes (k, v), [H, d_k, d_v]."""
    written = jnp.einsum("jhk,jhv->hkv", k * decay.between[:, -1].T[..., None], v)
    return decay.since_before[:, -1, None, None] * S + written
