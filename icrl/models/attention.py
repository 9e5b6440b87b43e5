"""Causal softmax attention in its two forms, with the platform's fastest evaluation chosen in this one place.

Letters: T new positions, C cache slots, H heads, d features a head. Softmax is in float32 always.
"""

import jax
import jax.numpy as jnp

from icrl.types import Array

QUERY_BLOCK = 128  # a [128, 128..T] score tile of a few sequences stays in a CPU core's cache
CACHE_CHUNK = 64  # cache slots read at a time when acting


def causal_attention(q: Array, k: Array, v: Array, segment: Array | None = None) -> Array:
    """softmax(q k^T / sqrt(d)) v over the past, itself included, and within the same segment.

    Args:
      q, k, v: [T, H, d] float32.
      segment: [T] int32, positions attend only to their own segment; None means one segment.

    Returns:
      [T, H, d]. Queries are taken in blocks, each against its own past only (half the work of a full square), and
      the division by the softmax sum comes after the product with v, where it costs d instead of T.
    """
    scale = q.shape[-1] ** -0.5
    length = q.shape[0]
    blocks = []
    for low in range(0, length, QUERY_BLOCK):
        high = min(low + QUERY_BLOCK, length)
        visible = _visible(low, high, segment)
        blocks.append(_lazy_softmax(q[low:high] * scale, k[:high], v[:high], visible))
    return jnp.concatenate(blocks)


def _visible(low: int, high: int, segment: Array | None) -> Array:
    """Mask [high - low, high]: key not later than the query, and of its segment."""
    causal = jnp.arange(high)[None, :] <= jnp.arange(low, high)[:, None]
    return causal if segment is None else causal & (segment[low:high, None] == segment[None, :high])


def _lazy_softmax(q: Array, k: Array, v: Array, visible: Array) -> Array:
    """Attention of q [t, H, d] over k, v [s, H, d] where visible [t, s]; normalised last."""
    scores = jnp.einsum("thd,shd->hts", q, k, preferred_element_type=jnp.float32)
    scores = jnp.where(visible, scores, -jnp.inf)
    peak = jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True))
    weights = jnp.exp(scores - peak)
    total = jnp.sum(weights, axis=-1)
    mixed = jnp.einsum("hts,shd->thd", weights, v)
    return mixed / total.T[..., None]


def cached_attention(q: Array, keys: Array, values: Array, position: Array, first: Array) -> Array:
    """Attention of new positions over a cache into which their own keys and values are already written.

    Args:
      q: [T, H, d] float32, the new positions, standing in slots position .. position + T - 1.
      keys, values: [H, C, d] float32, heads first so that a chunk of a head is contiguous; C a multiple of
        CACHE_CHUNK or smaller than it.
      position: [] int32, slot of the first new position.
      first: [T] int32, the earliest slot each new position may see.

    Returns:
      [T, H, d]. Only the filled part of the cache is read, a chunk at a time with a running softmax, so the cost of
      a step grows with the context there is and not with the context there may be. ``position`` must not carry a
      batch axis under ``vmap`` (it does not when all tasks take their steps together), or every chunk is read.
    """
    length, capacity = q.shape[0], keys.shape[1]
    q = q * q.shape[-1] ** -0.5
    chunk = min(CACHE_CHUNK, capacity)
    query_slot = position + jnp.arange(length)

    def read_chunk(i: Array, running: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        peak, total, mixed = running
        slot = i * chunk + jnp.arange(chunk)
        k = jax.lax.dynamic_slice_in_dim(keys, i * chunk, chunk, axis=1)
        v = jax.lax.dynamic_slice_in_dim(values, i * chunk, chunk, axis=1)
        visible = (slot[None, :] <= query_slot[:, None]) & (slot[None, :] >= first[:, None])
        scores = jnp.where(visible, jnp.einsum("thd,hsd->hts", q, k, preferred_element_type=jnp.float32), -1e30)
        new_peak = jnp.maximum(peak, jnp.max(scores, axis=-1))
        weights = jnp.where(visible, jnp.exp(scores - new_peak[..., None]), 0.0)
        shrink = jnp.exp(peak - new_peak)
        mixed = mixed * shrink[..., None] + jnp.einsum("hts,hsd->htd", weights, v)
        return new_peak, total * shrink + jnp.sum(weights, axis=-1), mixed

    heads, dim = q.shape[1:]
    empty = (jnp.full((heads, length), -1e30), jnp.zeros((heads, length)), jnp.zeros((heads, length, dim)))
    num_chunks = (position + length + chunk - 1) // chunk
    _, total, mixed = jax.lax.fori_loop(0, num_chunks, read_chunk, empty)
    return (mixed / total[..., None]).transpose(1, 0, 2)
