"""Products of rows with a matrix each, chosen among E: what a sparse mixture of experts computes.

``grouped_dot`` gives row t of x [T, D] times the matrix W[e_t] of W [E, D, N]; ``grouped_outer`` sums outer products
of rows by e. Either is the transpose of the other, so both are linear primitives with all of jax's transformations.
Under ``vmap`` with one W for all, the rows of all sequences become the rows of one product: what is small in one
sequence is large in a batch. No row is dropped, and none has a part in another's result.

The rows of a group are laid side by side and the group is filled up to whole blocks of S rows, so that a batched
product of blocks does the work: at most T + E (S - 1) rows instead of the E T of all experts for all tokens (the
dropless blocks of Gale et al. 2023, MegaBlocks, in plain XLA). ``jax.lax.ragged_dot`` means the same, but on a CPU it
took longer than all experts for all tokens, whatever E (jax 0.10.2).

A primitive is traced where it is compiled, outside of ``exact_products``: its products of float32 are exact by
themselves.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from icrl.core.types import Array

MOST = 64  # rows of a block


def grouped_dot(x: Array, W: Array, e: Array) -> Array:
    """x_t W[e_t], [T, N], of x [T, D], W [E, D, N] and e [T] int32 in 0 .. E - 1."""
    made: Array = _dot_p.bind(x, W, e)
    return made


def grouped_outer(x: Array, y: Array, e: Array, count: int) -> Array:
    """The sum over t with e_t = i of x_t y_t^T at each i, [E, D, N], of x [T, D], y [T, N] and E = ``count``."""
    made: Array = _outer_p.bind(x, y, e, count=count)
    return made


class _Blocks(NamedTuple):
    """Where the rows are once groups stand together in M blocks of S rows."""

    place: Array  # [T] int32, slot in 0 .. M S - 1 of each row
    group: Array  # [M] int32, of each block; of those that stay empty any
    size: int  # S

    def filled(self, rows: Array) -> Array:
        """Rows [T, D] in their slots [M, S, D], zeros in the others."""
        slots = jnp.zeros((self.group.shape[0] * self.size, rows.shape[1]), rows.dtype)
        slots = slots.at[self.place].set(rows, unique_indices=True, mode="promise_in_bounds")
        return slots.reshape(-1, self.size, rows.shape[1])


def _blocks_of(e: Array, count: int) -> _Blocks:
    """S is about the rows of a group if all were as large; there are blocks enough however the rows fall."""
    (T,) = e.shape
    size = min(1 << (max(T // count, 1) - 1).bit_length(), MOST)
    most = min(T // size + count, T)
    order = jnp.argsort(e, stable=True)
    rows = jnp.zeros(count, jnp.int32).at[e].add(1)
    blocks = -(-rows // size)
    ends = jnp.cumsum(blocks)
    first = size * (ends - blocks) - (jnp.cumsum(rows) - rows)  # slot of a group's first row, less its rank of all
    place = jnp.zeros(T, jnp.int32).at[order].set(jnp.arange(T, dtype=jnp.int32) + first[e[order]])
    group = jnp.searchsorted(ends, jnp.arange(most, dtype=jnp.int32), side="right")
    return _Blocks(place, jnp.minimum(group, count - 1).astype(jnp.int32), size)


def _dot(x: Array, W: Array, e: Array) -> Array:
    blocks = _blocks_of(e, W.shape[0])
    made = jnp.einsum("msd,mdn->msn", blocks.filled(x), W[blocks.group], precision="highest")
    return made.reshape(-1, W.shape[2])[blocks.place]


def _outer(x: Array, y: Array, e: Array, *, count: int) -> Array:
    blocks = _blocks_of(e, count)
    made = jnp.einsum("msd,msn->mdn", blocks.filled(x), blocks.filled(y), precision="highest")
    return jax.ops.segment_sum(made, blocks.group, count, indices_are_sorted=True)


# --- the two as primitives: bilinear maps, each the transpose of the other ---

_dot_p, _outer_p = Primitive("grouped_dot"), Primitive("grouped_outer")


def _jvp(primitive: Primitive, primals: Any, tangents: Any, **static: Any) -> tuple[Array, Any]:
    """Of a map that is linear in its first and in its second argument; the third is of whole numbers."""
    (a, b, e), (da, db, _) = primals, tangents
    parts = [] if type(da) is ad.Zero else [primitive.bind(da, b, e, **static)]
    parts += [] if type(db) is ad.Zero else [primitive.bind(a, db, e, **static)]
    made = primitive.bind(a, b, e, **static)
    return made, sum(parts[1:], *parts[:1]) if parts else ad.Zero(jax.typeof(made))


def _dot_transposed(given: Any, x: Any, W: Any, e: Array) -> Any:
    if ad.is_undefined_primal(x):
        return (ad.Zero(x.aval) if type(given) is ad.Zero else grouped_dot(given, W.mT, e)), None, None
    return None, (ad.Zero(W.aval) if type(given) is ad.Zero else grouped_outer(x, given, e, W.aval.shape[0])), None


def _outer_transposed(given: Any, x: Any, y: Any, e: Array, *, count: int) -> Any:
    if ad.is_undefined_primal(x):
        return (ad.Zero(x.aval) if type(given) is ad.Zero else grouped_dot(y, given.mT, e)), None, None
    return None, (ad.Zero(y.aval) if type(given) is ad.Zero else grouped_dot(x, given, e)), None


def _in_rows(size: int, dims: Any, *fields: Any) -> list[Array]:
    """The fields [..., T, ...] of each of ``size`` sequences one after the other, [size T, ...]."""
    moved = [batching.bdim_at_front(field, at, size) for field, at in zip(fields, dims, strict=True)]
    return [field.reshape(-1, *field.shape[2:]) for field in moved]


def _dot_batched(args: Any, dims: Any) -> tuple[Array, int]:
    x, W, e = args
    size = next(arg.shape[at] for arg, at in zip(args, dims, strict=True) if at is not None)
    rows, groups = _in_rows(size, (dims[0], dims[2]), x, e)
    if dims[1] is not None:  # each sequence has matrices of its own
        count = W.shape[0 if dims[1] else 1]
        (W,), groups = _in_rows(size, dims[1:2], W), groups + count * _sequence_of(size, groups)
    return grouped_dot(rows, W, groups).reshape(size, -1, W.shape[2]), 0


def _outer_batched(args: Any, dims: Any, *, count: int) -> tuple[Array, int]:
    size = next(arg.shape[at] for arg, at in zip(args, dims, strict=True) if at is not None)
    x, y, groups = _in_rows(size, dims, *args)
    made = grouped_outer(x, y, groups + count * _sequence_of(size, groups), size * count)
    return made.reshape(size, count, *made.shape[1:]), 0


def _sequence_of(size: int, rows: Array) -> Array:
    return jnp.repeat(jnp.arange(size, dtype=jnp.int32), rows.shape[0] // size)


def _shape_of_dot(x: Any, W: Any, e: Any) -> Any:
    del e
    return jax.core.ShapedArray((x.shape[0], W.shape[2]), x.dtype)


def _shape_of_outer(x: Any, y: Any, e: Any, *, count: int) -> Any:
    del e
    return jax.core.ShapedArray((count, x.shape[1], y.shape[1]), x.dtype)


_dot_p.def_impl(jax.jit(_dot))
_outer_p.def_impl(jax.jit(_outer, static_argnames="count"))
_dot_p.def_abstract_eval(_shape_of_dot)
_outer_p.def_abstract_eval(_shape_of_outer)
for _primitive, _rule, _transposed, _batched in (
    (_dot_p, _dot, _dot_transposed, _dot_batched),
    (_outer_p, _outer, _outer_transposed, _outer_batched),
):
    mlir.register_lowering(_primitive, mlir.lower_fun(_rule, multiple_results=False))
    ad.primitive_jvps[_primitive] = partial(_jvp, _primitive)
    ad.primitive_transposes[_primitive] = _transposed
    batching.primitive_batchers[_primitive] = _batched
