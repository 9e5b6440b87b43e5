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
FEW = 4  # new positions for which a CPU does better with sums along the slots than with products of matrices
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
      keys, values: [N, H, d, S], slot c in chunk c // S at c % S: see ``empty_cache``.
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


def empty_cache(capacity: int, num_heads: int, dim: int) -> Array:
    """Keys or values [N, H, d, S] float32 with room for ``capacity`` slots in N chunks of S.

    Slots are the last axis, along which a CPU computes side by side. All chunks have CACHE_CHUNK slots, unless one
    of ``capacity`` is enough.
    """
    slots = min(CACHE_CHUNK, capacity)
    return jnp.zeros((-(-capacity // slots), num_heads, dim, slots), jnp.float32)


def written(cache: Array, new: Array, position: Array) -> Array:
    """The cache [N, H, d, S] with ``new`` [T, H, d] in slots position .. position + T - 1."""
    chunk, slot = jnp.divmod(position + jnp.arange(len(new)), cache.shape[-1])
    if len(new) > FEW:
        return cache.at[chunk, :, :, slot].set(new.astype(cache.dtype))
    for t in range(len(new)):  # in place, which a scatter of a few is not on a CPU
        column = new[t, None, :, :, None].astype(cache.dtype)
        cache = jax.lax.dynamic_update_slice(cache, column, (chunk[t], 0, 0, slot[t]))
    return cache


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _by_chunks(kind: str, window: int, q: Array, keys: Array, values: Array, position: Array, first: Array) -> Array:
    (length, heads, dim), chunk = q.shape, keys.shape[-1]
    query_slot = position + jnp.arange(length)
    dtype = jnp.promote_types(q.dtype, jnp.float32)
    reader: type[_Lanes | _Products] = _Lanes if length <= FEW and jax.default_backend() == "cpu" else _Products

    def read_chunk(i: Array, running: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        peak, total, mixed = running
        slot = i * chunk + jnp.arange(chunk)
        visible = (slot[None, :] <= query_slot[:, None]) & (slot[None, :] >= first[:, None])
        visible, scores = visible[:, None, :], reader.scores(q.astype(dtype), keys, i)
        if kind == "relu":
            weights, shrink = jnp.where(visible, jax.nn.relu(scores), 0), jnp.ones_like(peak)
            total = total + reader.sum(visible.astype(dtype))
        else:
            scores = jnp.where(visible, scores, LOWEST)  # what is weighed before anything is visible shrinks to 0
            peak, before = jnp.maximum(peak, reader.max(scores)), peak
            weights, shrink = jnp.exp(scores - peak), jnp.exp(before - peak)
            total = total * shrink + reader.sum(weights)
        return peak, total, mixed * shrink[:, :, None] + reader.mixed(weights, values, i)

    lanes = (length, heads, reader.lanes(chunk))
    empty = (jnp.full(lanes, LOWEST, dtype), jnp.zeros(lanes, dtype), jnp.zeros((*lanes[:2], dim, lanes[2]), dtype))
    earliest = jnp.maximum(position - (window - 1), 0) // chunk if window else 0
    num_chunks = (position + length + chunk - 1) // chunk
    peak, total, mixed = jax.lax.fori_loop(earliest, num_chunks, read_chunk, empty)
    share = jnp.exp(peak - peak.max(-1, keepdims=True))
    # a product of matrices: a CPU sums along the last axis of a plain sum one number at a time
    return jnp.einsum("thdl,thl->thd", mixed, share) / jnp.einsum("thl,thl->th", total, share)[..., None]


class _Products:
    """Reads a chunk [H, d, S] of a cache by products of matrices, and keeps one running sum for all its slots."""

    @staticmethod
    def lanes(slots: int) -> int:
        """Running sums."""
        del slots
        return 1

    @staticmethod
    def scores(q: Array, keys: Array, i: Array) -> Array:
        """Products q . k with the keys of chunk ``i``, [T, H, S]."""
        k = jax.lax.dynamic_index_in_dim(keys, i, keepdims=False)
        return jnp.einsum("thd,hds->ths", q, k, preferred_element_type=q.dtype)

    @staticmethod
    def mixed(weights: Array, values: Array, i: Array) -> Array:
        """What weights [T, H, S] make of the values of chunk ``i``, [T, H, d, lanes]."""
        v = jax.lax.dynamic_index_in_dim(values, i, keepdims=False)
        return jnp.einsum("ths,hds->thd", weights, v, preferred_element_type=weights.dtype)[..., None]

    @staticmethod
    def max(scores: Array) -> Array:
        """[T, H, S] to [T, H, lanes]."""
        return scores.max(-1, keepdims=True)

    @staticmethod
    def sum(weights: Array) -> Array:
        """[T, H, S] to [T, H, lanes]."""
        return weights.sum(-1, keepdims=True)


class _Lanes:
    """The same as ``_Products`` with a running sum for each slot of a chunk, joined at the end.

    All is arithmetic along the slots and nothing is copied out of the cache.
    """

    @staticmethod
    def lanes(slots: int) -> int:
        """Running sums."""
        return slots

    @staticmethod
    def scores(q: Array, keys: Array, i: Array) -> Array:
        """Term by term: each reads its own part of the cache, so that none is copied."""
        (heads, dim, slots), zero = keys.shape[1:], jnp.zeros_like(i)
        rows = (jax.lax.dynamic_slice(keys, (i, zero, zero + e, zero), (1, heads, 1, slots)) for e in range(dim))
        return sum((q[:, :, e, None] * row[:, :, 0] for e, row in enumerate(rows)), start=jnp.zeros((), q.dtype))

    @staticmethod
    def mixed(weights: Array, values: Array, i: Array) -> Array:
        """Not summed over the slots."""
        return weights[:, :, None] * jax.lax.dynamic_index_in_dim(values, i)

    @staticmethod
    def max(scores: Array) -> Array:
        """As they are."""
        return scores

    @staticmethod
    def sum(weights: Array) -> Array:
        """As they are."""
        return weights


def _at_once(kind: str, q: Array, keys: Array, values: Array, position: Array, first: Array) -> Array:
    """The same, from the whole cache."""
    keys, values = (x.transpose(1, 0, 3, 2).reshape(x.shape[1], -1, x.shape[2]) for x in (keys, values))  # [H, C, d]
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
