"""Causal attention tile by tile: memory grows with T, the program does not grow at all.

Scores are computed in square tiles of B queries by B keys, and nothing of them is kept: the forward pass carries the
largest score, the sum of weights and the weighted sum of each query from tile to tile (Milakov & Gimelshein 2018,
algorithm 3), the backward pass computes the tiles again (Dao et al. 2022, algorithm 4). One ``scan`` runs over the
pairs of blocks of which one sees the other; under a window their number grows with T, else with its square.

A tile is [keys, queries]: what belongs to a query is a row, along which a CPU computes side by side, and no product has
to turn a tile. Letters: T positions, B in a block, H heads, d features a head.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from icrl.core.types import Array

LOWEST = -1e30  # a score that weighs nothing, and still can be subtracted
CPU_BLOCK = 128  # positions at most: a tile of a few sequences stays in a core's cache
WIDE_BLOCK = 512  # elsewhere: few and large kernels


def tiled_attention(q: Array, k: Array, v: Array, first: Array, kind: str, reach: int) -> Array:
    """What q finds of v, position by position.

    Args:
      q, k, v: [T, H, d]; q is scaled.
      first: [T] int32, the earliest position that each may see.
      kind: of the weights, "softmax" or "relu".
      reach: positions that any one sees at most, itself included; tiles beyond are not looked at.

    Returns:
      [T, H, d], float32 at least. Products are of factors of q's type, sums in float32 at least.
    """
    length = q.shape[0]
    block = _block(length)
    added = -length % block
    q, k, v = (jnp.pad(x, ((0, added), (0, 0), (0, 0))).swapaxes(0, 1) for x in (q, k, v))
    first = jnp.pad(first, (0, added))  # what is added sees something, and is seen by nobody before it
    return _attended(kind, block, reach, q, k, v, first).swapaxes(0, 1)[:length]


def _block(length: int) -> int:
    """B: the blocks are as few as may be and of one size, a multiple of 8, so that little is added at the end."""
    count = -(-length // (CPU_BLOCK if jax.default_backend() == "cpu" else WIDE_BLOCK))
    return -(-length // count // 8) * 8


def _pairs(num_blocks: int, block: int, reach: int) -> tuple[Array, Array]:
    """Blocks of queries, and the blocks of keys that they see, the own one last."""
    furthest = -(-(reach - 1) // block)  # blocks back
    pairs = [(i, j) for i in range(num_blocks) for j in range(max(i - furthest, 0), i + 1)]
    queries, keys = np.asarray(pairs, np.int32).T
    return jnp.asarray(queries), jnp.asarray(keys)


def _product(a: Array, b: Array, dtype: Any) -> Array:
    """Product of a [H, m, n] and b [H, n, p], summed in ``dtype``."""
    return jax.lax.dot_general(a, b, (((2,), (1,)), ((0,), (0,))), preferred_element_type=dtype)


class _Tile:
    """One pair of blocks: reads and writes what belongs to its queries and to its keys."""

    def __init__(self, block: int, queries: Array, keys: Array):
        self.block, self.queries, self.keys = block, queries * block, keys * block

    def of_queries(self, x: Array, axis: int) -> Array:
        return jax.lax.dynamic_slice_in_dim(x, self.queries, self.block, axis)

    def of_keys(self, x: Array, axis: int) -> Array:
        return jax.lax.dynamic_slice_in_dim(x, self.keys, self.block, axis)

    def put_queries(self, x: Array, new: Array, axis: int) -> Array:
        return jax.lax.dynamic_update_slice_in_dim(x, new, self.queries, axis)

    def add_to_queries(self, x: Array, new: Array, axis: int) -> Array:
        return self.put_queries(x, self.of_queries(x, axis) + new, axis)

    def add_to_keys(self, x: Array, new: Array, axis: int) -> Array:
        return jax.lax.dynamic_update_slice_in_dim(x, self.of_keys(x, axis) + new, self.keys, axis)

    def scores(self, kind: str, k: Array, qt: Array, first: Array) -> Array:
        """[H, B keys, B queries] of k [H, T, d] and qt [H, d, T]; ``LOWEST`` or 0 where a query does not see."""
        wide = jnp.promote_types(k.dtype, jnp.float32)
        found = _product(self.of_keys(k, 1), self.of_queries(qt, 2), wide)
        key = self.keys + jnp.arange(self.block)[:, None]
        query = self.queries + jnp.arange(self.block)[None, :]
        visible = (key <= query) & (key >= self.of_queries(first, 0)[None, :])
        return jnp.where(visible[None], found, LOWEST if kind == "softmax" else 0)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _attended(kind: str, block: int, reach: int, q: Array, k: Array, v: Array, first: Array) -> Array:
    """Attention [H, T, d] over whole blocks."""
    return _forward(kind, block, reach, q, k, v, first)[0]


def _forward(
    kind: str, block: int, reach: int, q: Array, k: Array, v: Array, first: Array
) -> tuple[Array, tuple[Any, ...]]:
    """Attention, and what the backward pass wants besides its inputs."""
    heads, length, dim = q.shape
    wide = jnp.promote_types(q.dtype, jnp.float32)
    qt, vt = q.swapaxes(1, 2), v.swapaxes(1, 2)

    def softmax(sums: tuple[Array, ...], pair: tuple[Array, Array]) -> tuple[tuple[Array, ...], None]:
        peak, total, weighted = sums
        tile = _Tile(block, *pair)
        scores = tile.scores(kind, k, qt, first)
        before = tile.of_queries(peak, 1)
        now = jnp.maximum(before, jnp.max(scores, axis=1))
        weights, kept = jnp.exp(scores - now[:, None]), jnp.exp(before - now)
        more = _product(tile.of_keys(vt, 2), weights.astype(v.dtype), wide)
        total = tile.put_queries(total, tile.of_queries(total, 1) * kept + jnp.sum(weights, axis=1), 1)
        weighted = tile.put_queries(weighted, tile.of_queries(weighted, 2) * kept[:, None] + more, 2)
        return (tile.put_queries(peak, now, 1), total, weighted), None

    def relu(weighted: Array, pair: tuple[Array, Array]) -> tuple[Array, None]:
        tile = _Tile(block, *pair)
        weights = jax.nn.relu(tile.scores(kind, k, qt, first))
        return tile.add_to_queries(weighted, _product(tile.of_keys(vt, 2), weights.astype(v.dtype), wide), 2), None

    pairs, nothing = _pairs(length // block, block, reach), jnp.zeros((heads, dim, length), wide)
    if kind == "relu":
        count = (jnp.arange(length) - first + 1).astype(wide)[None, :]
        y = (jax.lax.scan(relu, nothing, pairs)[0] / count[:, None]).swapaxes(1, 2)
        return y, (q, k, v, first, y, count)
    start: tuple[Array, ...] = (jnp.full((heads, length), LOWEST, wide), jnp.zeros((heads, length), wide), nothing)
    (peak, total, weighted), _ = jax.lax.scan(softmax, start, pairs)
    y = (weighted / total[:, None]).swapaxes(1, 2)
    return y, (q, k, v, first, y, peak + jnp.log(total))


def _backward(
    kind: str, block: int, reach: int, kept: tuple[Any, ...], slope: Array
) -> tuple[Array, Array, Array, None]:
    """Gradients with respect to q, k and v, of the ``slope`` [H, T, d] with respect to what was found."""
    q, k, v, first, y, scale = kept  # scale: log of the sum of weights, or the number of visible positions
    wide = y.dtype
    if kind == "relu":
        slope = slope / scale[..., None]
    else:
        along = jnp.sum(slope * y, axis=2)  # [H, T]: a weight counts by how much more than the whole it brings
    slope = slope.astype(v.dtype)
    qt, kt, slope_t = (x.swapaxes(1, 2) for x in (q, k, slope))

    def add(sums: tuple[Array, ...], pair: tuple[Array, Array]) -> tuple[tuple[Array, ...], None]:
        dqt, dk, dv = sums
        tile = _Tile(block, *pair)
        scores = tile.scores(kind, k, qt, first)
        by_weight = _product(tile.of_keys(v, 1), tile.of_queries(slope_t, 2), wide)
        if kind == "relu":
            weights = jax.nn.relu(scores)
            by_score = jnp.where(scores > 0, by_weight, 0)
        else:
            weights = jnp.exp(scores - tile.of_queries(scale, 1)[:, None])
            by_score = weights * (by_weight - tile.of_queries(along, 1)[:, None])
        weights, by_score = weights.astype(v.dtype), by_score.astype(q.dtype)
        dv = tile.add_to_keys(dv, _product(weights, tile.of_queries(slope, 1), wide), 1)
        dk = tile.add_to_keys(dk, _product(by_score, tile.of_queries(q, 1), wide), 1)
        return (tile.add_to_queries(dqt, _product(tile.of_keys(kt, 2), by_score, wide), 2), dk, dv), None

    start = tuple(jnp.zeros(x.shape, wide) for x in (qt, k, v))
    (dqt, dk, dv), _ = jax.lax.scan(add, start, _pairs(q.shape[1] // block, block, reach))
    return dqt.swapaxes(1, 2).astype(q.dtype), dk.astype(k.dtype), dv.astype(v.dtype), None


_attended.defvjp(_forward, _backward)
