"""Attention of a few new positions over what was read before, and the memory of it.

Three memories: a ``Cache`` holds every position up to its capacity; a ``Ring``, of attention that sees a window of W
positions, the latest W, however long the past; a ``ForkedCache`` one past with many futures. Letters: T new positions,
C slots of a cache, H heads, d features a head. Slots are the last axis, along which a CPU computes side by side.
"""

import functools
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from icrl.core.types import Array
from icrl.models.layers.attention import scaled
from icrl.models.layers.tiled_attention import LOWEST

PARTS = 4  # of a cache, at most: a step reads those that are begun
SHORTEST_PART = 128  # slots; each part costs operations of its own
ALIGNED = 16  # slots, of which parts are multiples
FEW = 4  # new positions, each of which is written and weighs values by itself: on a CPU that is faster


class Cache(NamedTuple):
    """Keys and values of the past, position by position, in arrays of their own that follow each other.

    A step reads the parts that are begun, so its cost grows with the past there is, not with the past there may be; one
    array would have to be copied to read a part of it.
    """

    keys: tuple[Array, ...]  # [H, d, c] float32 each
    values: tuple[Array, ...]


class Ring(NamedTuple):
    """Keys and values of the latest R positions: position s is in slot s mod R, and nothing ever moves.

    R is ``FEW`` more than the window and a multiple of ``ALIGNED``, so that a few new positions are written before they
    are attended to, like all others.
    """

    keys: Array  # [H, d, R] float32
    values: Array


class ForkedCache(NamedTuple):
    """A memory with many futures: what they share stands once, each adds its own behind it."""

    trunk: Cache | Ring  # of the past, which nobody writes into
    branch: Cache  # of the future
    length: Array  # [] int32, positions in the branch


Memory = Cache | Ring | ForkedCache


class Span(NamedTuple):
    """Keys and values side by side, and where they stand."""

    keys: Array  # [H, d, s]
    values: Array
    position: Array  # [s] int32; negative: there is nothing


def empty_memory(capacity: int, num_heads: int, dim: int, window: int = 0) -> Cache | Ring:
    """A memory with room for ``capacity`` positions at least, or for a shorter ``window`` of the latest ones."""
    if 0 < window < capacity:
        size = -(-(window + FEW) // ALIGNED) * ALIGNED
        return Ring(*(jnp.zeros((num_heads, dim, size), jnp.float32) for _ in Ring._fields))
    count = max(1, min(PARTS, capacity // SHORTEST_PART))
    size = -(-capacity // count // ALIGNED) * ALIGNED
    slots = [jnp.zeros((num_heads, dim, size), jnp.float32)] * count
    return Cache(tuple(slots), tuple(slots))


def forked(memory: Cache | Ring, room: int) -> ForkedCache:
    """The memory as a trunk, and an empty branch with room for ``room`` positions."""
    num_heads, dim, _ = jax.tree.leaves(memory)[0].shape
    branch = empty_memory(room, num_heads, dim)
    assert isinstance(branch, Cache)
    return ForkedCache(memory, branch, jnp.int32(0))


def cached_attention(
    q: Array, k: Array, v: Array, memory: Memory, position: Array, first: Array, kind: str = "softmax", window: int = 0
) -> tuple[Array, Memory]:
    """What new positions find of v in the past and among themselves, and the memory with them in it.

    Args:
      q, k, v: [T, H, d], of positions position .. position + T - 1.
      memory: of the positions before.
      position: [] int32.
      first: [T] int32, the earliest position that each may see.
      kind: of the weights, see ``attention.py``.
      window: when positive, positions see at most so many, themselves included; then a ``Ring`` holds as many.

    Returns:
      [T, H, d], and the memory. Under a ``vmap`` over futures alone the trunk of a forked cache has no batch axis: all
      of them meet it in one product of matrices.
    """
    length = q.shape[0]
    query, end = position + jnp.arange(length), position + length
    if window:
        first = jnp.maximum(first, query - (window - 1))
    inputs = scaled(q, kind), query, first
    k, v = (x.transpose(1, 2, 0).astype(jax.tree.leaves(memory)[0].dtype) for x in (k, v))
    if isinstance(memory, Cache):
        memory = _written(memory, k, v, position)
        return _over_begun_parts(kind, memory, end, *inputs), memory
    if isinstance(memory, Ring):
        if length <= FEW:
            memory = _turned(memory, k, v, position)
            return _attended(kind, [_of_ring(memory, end)], *inputs), memory
        spans = [_of_ring(memory, position), Span(k, v, query)]
        return _attended(kind, spans, *inputs), _turned(memory, k, v, position)
    begin = position - memory.length
    branch = _written(memory.branch, k, v, memory.length)
    trunk = [_of_ring(memory.trunk, begin)] if isinstance(memory.trunk, Ring) else _of_parts(memory.trunk, 0, begin)
    y = _attended(kind, [*trunk, *_of_parts(branch, begin, end)], *inputs)
    return y, ForkedCache(memory.trunk, branch, memory.length + length)


# --- what is read ---


def _attended(kind: str, spans: Sequence[Span], q: Array, query: Array, first: Array) -> Array:
    """Attention [T, H, d] of q [T, H, d], scaled, over spans as one sequence; normalised last."""
    wide = jnp.promote_types(q.dtype, jnp.float32)
    visible = [(at[None] <= query[:, None]) & (at[None] >= first[:, None]) for _, _, at in spans]
    found = [jnp.einsum("thd,hds->hts", q, keys, preferred_element_type=wide) for keys, _, _ in spans]
    scores = [
        jnp.where(seen, each, LOWEST if kind == "softmax" else 0) for seen, each in zip(visible, found, strict=True)
    ]
    if kind == "softmax":
        peaks = [jnp.max(each, axis=-1, keepdims=True) for each in scores]
        peak = jax.lax.stop_gradient(functools.reduce(jnp.maximum, peaks))
        weights = [jnp.exp(each - peak) for each in scores]  # exactly 0 where not visible
        total = _sum([jnp.sum(each, axis=-1) for each in weights]).T[..., None]
    else:
        weights = [jax.nn.relu(each) for each in scores]
        total = _sum([jnp.sum(each, axis=-1) for each in visible])[:, None, None]
    parts = [
        _weighted(each.astype(span.values.dtype), span.values, wide) for each, span in zip(weights, spans, strict=True)
    ]
    return _sum(parts) / total


def _weighted(weights: Array, values: Array, wide: Any) -> Array:
    """Sums [T, H, d] of values [H, d, s] by weights [H, T, s]."""
    length = weights.shape[1]
    if not 1 < length <= FEW:
        return jnp.einsum("hts,hds->thd", weights, values, preferred_element_type=wide)
    rows = [jnp.einsum("hs,hds->hd", weights[:, t], values, preferred_element_type=wide) for t in range(length)]
    return jnp.stack(rows)


def _sum(parts: list[Array]) -> Array:
    return functools.reduce(jnp.add, parts)


def _over_begun_parts(kind: str, cache: Cache, end: Array, q: Array, query: Array, first: Array) -> Array:
    """Attention over the parts that hold positions before ``end`` []."""

    def over(count: int, cache: Cache, *inputs: Array) -> Array:
        begun = Cache(cache.keys[:count], cache.values[:count])
        return _attended(kind, _of_parts(begun, 0, None), *inputs)

    size, count = cache.keys[0].shape[-1], len(cache.keys)
    branches = [partial(over, number + 1) for number in range(count)]
    return jax.lax.switch(furthest(end - 1) // size, branches, cache, q, query, first)


def _of_parts(cache: Cache, begin: int | Array, end: Array | None) -> list[Span]:
    """The parts, of which the first begins with position ``begin``; without what stands from ``end`` on."""
    spans, size = [], cache.keys[0].shape[-1]
    for number, (keys, values) in enumerate(zip(cache.keys, cache.values, strict=True)):
        at = begin + number * size + jnp.arange(size)
        spans.append(Span(keys, values, at if end is None else jnp.where(at < end, at, -1)))
    return spans


def _of_ring(ring: Ring, end: Array) -> Span:
    """The ring once positions before ``end`` [] are in it."""
    size = ring.keys.shape[-1]
    return Span(ring.keys, ring.values, end - 1 - (end - 1 - jnp.arange(size)) % size)


# --- what is written ---


def _written(cache: Cache, k: Array, v: Array, position: Array) -> Cache:
    """The cache with k and v [H, d, T] in slots position .. position + T - 1."""
    size = cache.keys[0].shape[-1]
    if len(cache.keys) == 1:
        return jax.tree.map(lambda part, new: _put(part, new, position), cache, Cache((k,), (v,)))

    def put(parts: tuple[Array, ...], new: Array) -> tuple[Array, ...]:
        begins = [position - number * size for number in range(len(parts))]
        return tuple(_replaced(part, new, begin) for part, begin in zip(parts, begins, strict=True))

    return Cache(put(cache.keys, k), put(cache.values, v))


def _turned(ring: Ring, k: Array, v: Array, position: Array) -> Ring:
    """The ring with k and v [H, d, T] of positions position .. position + T - 1 in place of the oldest."""
    size, length = ring.keys.shape[-1], k.shape[-1]
    kept = min(size, length)  # the others are overwritten at once
    begin = (position + length - kept) % size

    def put(part: Array, new: Array) -> Array:
        if length <= FEW:
            for t in range(length):
                part = _put(part, new[..., t : t + 1], (position + t) % size)
            return part
        part = _replaced(part, new[..., length - kept :], begin)
        return _replaced(part, new[..., length - kept :], begin - size)

    return Ring(put(ring.keys, k), put(ring.values, v))


def _put(part: Array, new: Array, slot: Array) -> Array:
    """``part`` [H, d, c] with all of ``new`` [H, d, T], for which there is room, from ``slot`` [] on."""
    return jax.lax.dynamic_update_slice_in_dim(part, new, slot, axis=-1)


def _replaced(part: Array, new: Array, begin: Array) -> Array:
    """``part`` [H, d, c] with ``new`` [H, d, T] in columns begin .. begin + T - 1, as far as there are such."""
    size, length = part.shape[-1], new.shape[-1]
    count = min(size, length)
    slot = jnp.clip(begin, 0, size - count)
    token = slot - begin  # in column ``slot``
    if length > 1:
        padded = jnp.pad(new, ((0, 0), (0, 0), (count, count)))
        new = jax.lax.dynamic_slice_in_dim(padded, token + count, count, axis=-1)  # clamped where none is seen
    there = token + jnp.arange(count)
    old = jax.lax.dynamic_slice_in_dim(part, slot, count, axis=-1)
    kept = jnp.where((there >= 0) & (there < length), new, old)
    return jax.lax.dynamic_update_slice_in_dim(part, kept, slot, axis=-1)


@jax.custom_batching.custom_vmap
def furthest(slot: Array) -> Array:
    """``slot`` []; under ``vmap`` the largest of all, so that a choice by it stays a choice and all read as much."""
    return slot


@furthest.def_vmap
def _furthest_of_all(axis_size: int, in_batched: list[bool], slot: Array) -> tuple[Array, bool]:
    del axis_size, in_batched
    return jnp.max(slot, axis=0), False
