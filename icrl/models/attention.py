"""Causal attention in its two forms, with the platform's fastest evaluation chosen in this one place.

A position attends to itself and the past, from a first visible slot on. Two kinds of weights:

- ``softmax``: exp(q . k / sqrt(d)), divided by their sum (Vaswani et al. 2017);
- ``relu``: max(q . k, 0), divided by the number of visible slots (Lin et al. 2023): no sum over other positions.

Letters: T new positions, C cache slots, H heads, d features a head. Weights are in float32 at least, always.
"""

from functools import partial

import jax
import jax.numpy as jnp

from icrl.types import Array

KINDS = ("softmax", "relu")
QUERY_BLOCK = 128  # a [128, 128..T] score tile of a few sequences stays in a CPU core's cache
CACHE_CHUNK = 64  # cache slots read at a time when acting
LOWEST = -1e30  # a score that weighs nothing, and still can be subtracted


def causal_attention(
    q: Array, k: Array, v: Array, first: Array | None = None, kind: str = "softmax", window: int = 0
) -> Array:
    """What q finds of v, position by position.

    Args:
      q, k, v: [T, H, d].
      first: [T] int32, the earliest position that each may see; None: all may see the whole past.
      kind: of the weights.
      window: when positive, positions see at most so many, themselves included.

    Returns:
      [T, H, d]. Queries are taken in blocks, each against its own past only (half the work of a full square), and
      the division by the sum of the weights comes after the product with v, where it costs d instead of T.
    """
    length, q = q.shape[0], _scaled(q, kind)
    if window:
        reach = jnp.arange(length) - (window - 1)
        first = reach if first is None else jnp.maximum(first, reach)
    blocks = []
    for low in range(0, length, QUERY_BLOCK):
        high = min(low + QUERY_BLOCK, length)
        seen = slice(max(low - window + 1, 0) if window else 0, high)
        visible = jnp.arange(seen.start, high)[None, :] <= jnp.arange(low, high)[:, None]
        if first is not None:
            visible &= jnp.arange(seen.start, high)[None, :] >= first[low:high, None]
        blocks.append(_attended(q[low:high], k[seen].swapaxes(0, 1), v[seen].swapaxes(0, 1), visible, kind))
    return jnp.concatenate(blocks)


def _scaled(q: Array, kind: str) -> Array:
    return q * q.shape[-1] ** -0.5 if kind == "softmax" else q


def _scores(q: Array, k: Array) -> Array:
    """Products [H, t, s] of q [t, H, d] and k [H, s, d]."""
    return jnp.einsum("thd,hsd->hts", q, k, preferred_element_type=jnp.promote_types(q.dtype, jnp.float32))


def _attended(q: Array, k: Array, v: Array, visible: Array, kind: str) -> Array:
    """Attention [t, H, d] of q [t, H, d], scaled, over k, v [H, s, d] where visible [t, s]; normalised last."""
    scores = jnp.where(visible, _scores(q, k), LOWEST if kind == "softmax" else 0)
    if kind == "softmax":
        peak = jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True))
        weights = jnp.exp(scores - peak)  # exactly 0 where not visible
        total = jnp.sum(weights, axis=-1).T
    else:
        weights, total = jax.nn.relu(scores), jnp.sum(visible, axis=-1)[:, None]
    return jnp.einsum("hts,hsd->thd", weights, v) / total[..., None]


def cached_attention(
    q: Array, keys: Array, values: Array, position: Array, first: Array, kind: str = "softmax", window: int = 0
) -> Array:
    """Attention of new positions over a cache into which their own keys and values are already written.

    Args:
      q: [T, H, d], the new positions, standing in slots position .. position + T - 1.
      keys, values: [H, C, d], heads first so that a chunk of a head is contiguous; C a multiple of CACHE_CHUNK or
        smaller than it.
      position: [] int32, slot of the first new position.
      first: [T] int32, the earliest slot each new position may see.
      kind: of the weights.
      window: when positive, positions see at most so many, themselves included.

    Returns:
      [T, H, d]. Only the part of the cache that can be seen is read, a chunk at a time with a running sum, so the
      cost of a step grows with the context there is and not with the context there may be. ``position`` must not
      carry a batch axis under ``vmap`` (it does not when all tasks take their steps together), or every chunk is
      read. The gradient reads all of the cache at once.
    """
    if window:
        first = jnp.maximum(first, position + jnp.arange(q.shape[0]) - (window - 1))
    return _by_chunks(kind, window, _scaled(q, kind), keys, values, position, first)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _by_chunks(kind: str, window: int, q: Array, keys: Array, values: Array, position: Array, first: Array) -> Array:
    (length, heads, dim), chunk = q.shape, min(CACHE_CHUNK, keys.shape[1])
    query_slot = position + jnp.arange(length)
    dtype = jnp.promote_types(q.dtype, jnp.float32)

    def read_chunk(i: Array, running: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        peak, total, mixed = running
        slot = i * chunk + jnp.arange(chunk)
        k = jax.lax.dynamic_slice_in_dim(keys, i * chunk, chunk, axis=1)
        v = jax.lax.dynamic_slice_in_dim(values, i * chunk, chunk, axis=1)
        visible = (slot[None, :] <= query_slot[:, None]) & (slot[None, :] >= first[:, None])
        scores = _scores(q, k)
        if kind == "relu":
            weights = jnp.where(visible, jax.nn.relu(scores), 0)
            return peak, total + jnp.sum(visible, axis=-1), mixed + jnp.einsum("hts,hsd->htd", weights, v)
        scores = jnp.where(visible, scores, LOWEST)
        new_peak = jnp.maximum(peak, jnp.max(scores, axis=-1))
        weights = jnp.where(visible, jnp.exp(scores - new_peak[..., None]), 0)
        shrink = jnp.exp(peak - new_peak)
        mixed = mixed * shrink[..., None] + jnp.einsum("hts,hsd->htd", weights, v)
        return new_peak, total * shrink + jnp.sum(weights, axis=-1), mixed

    zeros = jnp.zeros((heads, length), dtype)
    empty = (zeros + LOWEST, zeros, jnp.zeros((heads, length, dim), dtype))
    earliest = jnp.maximum(position - (window - 1), 0) // chunk if window else 0
    num_chunks = (position + length + chunk - 1) // chunk
    _, total, mixed = jax.lax.fori_loop(earliest, num_chunks, read_chunk, empty)
    return (mixed / total[..., None]).transpose(1, 0, 2)


def _at_once(kind: str, q: Array, keys: Array, values: Array, position: Array, first: Array) -> Array:
    """The same, from the whole cache."""
    slot, query_slot = jnp.arange(keys.shape[1]), position + jnp.arange(q.shape[0])
    visible = (slot[None, :] <= query_slot[:, None]) & (slot[None, :] >= first[:, None])
    return _attended(q, keys, values, visible, kind)


def _forward(kind: str, window: int, *inputs: Array) -> tuple[Array, tuple[Array, ...]]:
    return _by_chunks(kind, window, *inputs), inputs


def _backward(kind: str, window: int, inputs: tuple[Array, ...], cotangent: Array) -> tuple[Array | None, ...]:
    """A loop over as many chunks as there happen to be cannot be run backwards; the whole cache can."""
    del window  # ``first`` has it
    q, keys, values, position, first = inputs
    _, pull = jax.vjp(lambda q, keys, values: _at_once(kind, q, keys, values, position, first), q, keys, values)
    return (*pull(cotangent), None, None)


_by_chunks.defvjp(_forward, _backward)
