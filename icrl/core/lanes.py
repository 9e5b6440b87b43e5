"""Arithmetic on short axes, laid out so that ``vmap`` over tasks fills the vector unit of a processor.

``vmap`` puts tasks in front: [K] becomes [N, K], and XLA's kernels on a CPU run along K. Of five arms they make vectors
that are filled by five eighths, or none at all (a draw with a logarithm). With tasks behind, [K, N], they run along N.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

Array = jax.Array


def tasks_behind(function: Callable[..., Array]) -> Callable[..., Array]:
    """``function`` of pytrees of arrays [K] or numbers, which ``vmap`` is to batch behind the axis K, not before it.

    ``function`` works element by element, with operands that broadcast, or along axis 0, and gives one array without
    that axis. It sees K and behind it an axis for each ``vmap`` around, 1 long where an operand does not vary; numbers
    then have an axis of length 1 in the place of K. It is to be a function of a module, made once.
    """
    batched = custom_vmap(function)

    @batched.def_vmap
    def rule(size: int, varies: Any, *operands: Any) -> tuple[Array, bool]:
        del size
        varies = jax.tree.leaves(varies)
        leaves, structure = jax.tree.flatten(operands)
        leaves = [jnp.asarray(leaf) for leaf in leaves]
        rank = max(leaf.ndim - varied for leaf, varied in zip(leaves, varies, strict=True))
        moved = [_behind(leaf, rank, varied) for leaf, varied in zip(leaves, varies, strict=True)]
        return jnp.moveaxis(batched(*jax.tree.unflatten(structure, moved)), -1, 0), True

    return batched


def _behind(leaf: Array, rank: int, varied: bool) -> Array:
    """``leaf`` with ``rank`` axes and, as the last one, its first if that is a batch, else one of length 1."""
    leaf = jnp.moveaxis(leaf, 0, -1) if varied else leaf[..., None]
    return jnp.expand_dims(leaf, range(rank + 1 - leaf.ndim))


def argmax_first(values: Array) -> Array:
    """Where ``values`` [K, ...] are largest along axis 0, the first of ties, [...] int32.

    XLA makes one loop of an ``argmax`` and all that computes its values, without vectors. Of two reductions, which it
    will not compute dear values for twice, it makes loops of their own.
    """
    return jnp.argmax(values == jnp.max(values, axis=0, keepdims=True), axis=0).astype(jnp.int32)
