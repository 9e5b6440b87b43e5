"""Causal attention in its two forms, with the platform's fastest evaluation chosen in this one place.

A position attends to itself and the past, from a first visible slot on. Two kinds of weights:

- ``softmax``: exp(q . k / sqrt(d)), divided by their sum (Vaswani et al. 2017);
- ``relu``: max(q . k, 0), divided by the number of visible slots (Lin et al. 2023): no sum over other positions.

Letters: T new positions, C cache slots, H heads, d features a head. Weights are in float32 at least, always; a product
of factors in bfloat16 is summed in float32.
"""

import functools
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from icrl.core.types import Array
from icrl.models.layers.tiled_attention import LOWEST, tiled_attention

KINDS = ("softmax", "relu")
FUSED_FEATURES = 128  # a head's, at most and in multiples of 8, for cuDNN's kernel on every GPU that has it
PREFIXES = 8  # parts of a cache: a step reads as many of them as are begun
SHORTEST_PREFIX = 64  # slots that are not worth dividing


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
      [T, H, d], of q's type or float32. Memory grows with T and not with its square: tile by tile, or, on CUDA with
      factors in bfloat16 and unless a start hides a part of the past, in cuDNN's fused kernel.
    """
    if first is None and _is_fused(q, kind):
        return _fused(q, k, v, window)
    length = q.shape[0]
    first = jnp.zeros(length, jnp.int32) if first is None else first
    if window:
        first = jnp.maximum(first, jnp.arange(length) - (window - 1))
    return tiled_attention(_scaled(q, kind), k, v, first, kind, window or length)


def _is_fused(q: Array, kind: str) -> bool:
    """Whether cuDNN has a kernel for this platform, these weights and these factors."""
    fits = q.shape[-1] % 8 == 0 and q.shape[-1] <= FUSED_FEATURES
    return fits and q.dtype == jnp.bfloat16 and kind == "softmax" and _has_cudnn()


@functools.cache
def _has_cudnn() -> bool:
    """Whether the default device is a CUDA GPU of compute capability 8 or later."""
    device = jax.devices()[0]
    is_cuda = device.platform == "gpu" and "cuda" in device.client.platform_version.lower()
    return is_cuda and float(device.compute_capability) >= 8.0


def _fused(q: Array, k: Array, v: Array, window: int) -> Array:
    """The kernel asks for an even number of positions: one more, at the end, is seen by none of the others."""
    length, reach = q.shape[0], (window - 1, 0) if window else None
    q, k, v = (jnp.pad(x, ((0, length % 2), (0, 0), (0, 0))) for x in (q, k, v))
    y = jax.nn.dot_product_attention(q, k, v, is_causal=True, local_window_size=reach, implementation="cudnn")
    return y[:length]


def _scaled(q: Array, kind: str) -> Array:
    wide = jnp.promote_types(q.dtype, jnp.float32)
    return (q.astype(wide) * q.shape[-1] ** -0.5).astype(q.dtype) if kind == "softmax" else q


def _attended(q: Array, k: Array, v: Array, axes: str, visible: Array, kind: str) -> Array:
    """Attention [t, H, d] of q [t, H, d], scaled, over k and v where visible [t, s]; normalised last.

    ``axes`` says how k and v lie: "hsd" or "hds".
    """
    dtype = jnp.promote_types(q.dtype, jnp.float32)
    scores = jnp.einsum(f"thd,{axes}->hts", q, k, preferred_element_type=dtype)
    scores = jnp.where(visible, scores, LOWEST if kind == "softmax" else 0)
    if kind == "softmax":
        peak = jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True))
        weights = jnp.exp(scores - peak)  # exactly 0 where not visible
        total = jnp.sum(weights, axis=-1).T
    else:
        weights, total = jax.nn.relu(scores), jnp.sum(visible, axis=-1)[:, None]
    weighted = jnp.einsum(f"hts,{axes}->thd", weights.astype(v.dtype), v, preferred_element_type=dtype)
    return weighted / total[..., None]


class Cache(NamedTuple):
    """Keys and values of the past. Slots are the last axis, along which a CPU computes side by side."""

    keys: Array  # [H, d, C] float32
    values: Array  # [H, d, C] float32


def empty_cache(capacity: int, num_heads: int, dim: int) -> Cache:
    """A cache with room for C = ``capacity`` slots."""
    return Cache(*(jnp.zeros((num_heads, dim, capacity), jnp.float32) for _ in Cache._fields))


def written(cache: Cache, k: Array, v: Array, position: Array) -> Cache:
    """The cache with k and v [T, H, d] in slots position .. position + T - 1."""
    columns = Cache(*(new.transpose(1, 2, 0).astype(cache.keys.dtype) for new in (k, v)))
    return jax.tree.map(partial(jax.lax.dynamic_update_slice_in_dim, start_index=position, axis=-1), cache, columns)


def cached_attention(
    q: Array, cache: Cache, position: Array, first: Array, kind: str = "softmax", window: int = 0
) -> Array:
    """Attention of new positions over a cache into which their own keys and values are already written.

    Args:
      q: [T, H, d], the new positions, standing in slots position .. position + T - 1.
      cache: of C slots.
      position: [] int32, slot of the first new position.
      first: [T] int32, the earliest slot each new position may see.
      kind: of the weights.
      window: when positive, positions see at most so many, themselves included.

    Returns:
      [T, H, d]. Only a prefix of the cache that has all of the past is read, the shortest of a few, or the window
      alone: the cost of a step grows with the context there is, not with the context there may be.
    """
    length, capacity = q.shape[0], cache.keys.shape[-1]
    query_slot = position + jnp.arange(length)
    if window:
        first = jnp.maximum(first, query_slot - (window - 1))
    inputs = (_scaled(q, kind), cache, query_slot, first)
    if window and (seen := window + length - 1) < capacity:
        return _over_slots(kind, seen, jnp.clip(position - (window - 1), 0, capacity - seen), *inputs)
    part = max(-(-capacity // PREFIXES), SHORTEST_PREFIX)
    prefixes = [min(part * (number + 1), capacity) for number in range(-(-capacity // part))]
    branches = [partial(_over_slots, kind, prefix, 0) for prefix in prefixes]
    return jax.lax.switch(furthest(position + length - 1) // part, branches, *inputs)


def _over_slots(
    kind: str, num_slots: int, start: int | Array, q: Array, cache: Cache, query_slot: Array, first: Array
) -> Array:
    """Attention over ``num_slots`` slots of the cache from slot ``start`` on."""
    keys, values = (jax.lax.dynamic_slice_in_dim(x, start, num_slots, axis=-1) for x in cache)
    slot = start + jnp.arange(num_slots)
    visible = (slot[None, :] <= query_slot[:, None]) & (slot[None, :] >= first[:, None])
    return _attended(q, keys, values, "hds", visible, kind)


class ForkedCache(NamedTuple):
    """A cache with many futures: what they share stands once, each adds its own behind it."""

    trunk: Cache  # of the past, which nobody writes into
    branch: Cache  # of C slots, of the future
    length: Array  # [] int32, slots of the branch that are filled


def forked(cache: Cache, room: int) -> ForkedCache:
    """The cache as a trunk, and an empty branch with room for ``room`` slots."""
    num_heads, dim, _ = cache.keys.shape
    return ForkedCache(cache, empty_cache(room, num_heads, dim), jnp.int32(0))


def grown(cache: ForkedCache, k: Array, v: Array) -> ForkedCache:
    """The cache with k and v [T, H, d] in the next slots of its branch."""
    return ForkedCache(cache.trunk, written(cache.branch, k, v, cache.length), cache.length + k.shape[0])


def forked_attention(
    q: Array, cache: ForkedCache, position: Array, first: Array, kind: str = "softmax", window: int = 0
) -> Array:
    """``cached_attention`` over a cache that has forked and grown by the new positions, [T, H, d].

    Under a ``vmap`` over futures alone the trunk has no batch axis: all of them meet it in one product of matrices.
    """
    length, wide = q.shape[0], jnp.promote_types(q.dtype, jnp.float32)
    query_slot = position + jnp.arange(length)
    if window:
        first = jnp.maximum(first, query_slot - (window - 1))
    begin = position + length - cache.length  # slot of the first of the branch
    parts = (cache.trunk, cache.branch)
    slots = (jnp.arange(cache.trunk.keys.shape[-1]), begin + jnp.arange(cache.branch.keys.shape[-1]))
    last = (jnp.minimum(query_slot, begin - 1), query_slot)  # that each may see of the part
    visible = [(x[None, :] <= y[:, None]) & (x[None, :] >= first[:, None]) for x, y in zip(slots, last, strict=True)]

    def scored(part: Cache, seen: Array) -> Array:
        scores = jnp.einsum("thd,hds->hts", _scaled(q, kind), part.keys, preferred_element_type=wide)
        return jnp.where(seen, scores, LOWEST if kind == "softmax" else 0)

    def weighted(part: Cache, weights: Array) -> Array:
        factors = weights.astype(part.values.dtype), part.values
        return jnp.einsum("hts,hds->thd", *factors, preferred_element_type=wide)

    trunk, branch = (scored(part, seen) for part, seen in zip(parts, visible, strict=True))
    if kind == "softmax":
        peak = jnp.maximum(jnp.max(trunk, axis=-1, keepdims=True), jnp.max(branch, axis=-1, keepdims=True))
        trunk, branch = jnp.exp(trunk - peak), jnp.exp(branch - peak)
        total = (jnp.sum(trunk, axis=-1) + jnp.sum(branch, axis=-1)).T
    else:
        trunk, branch = jax.nn.relu(trunk), jax.nn.relu(branch)
        total = (jnp.sum(visible[0], axis=-1) + jnp.sum(visible[1], axis=-1))[:, None]
    return (weighted(cache.trunk, trunk) + weighted(cache.branch, branch)) / total[..., None]


@jax.custom_batching.custom_vmap
def furthest(slot: Array) -> Array:
    """``slot`` []; under ``vmap`` the largest of all, so that a choice by it stays a choice and all read one prefix."""
    return slot


@furthest.def_vmap
def _furthest_of_all(axis_size: int, in_batched: list[bool], slot: Array) -> tuple[Array, bool]:
    del axis_size, in_batched
    return jnp.max(slot, axis=0), False
