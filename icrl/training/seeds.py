"""S training seeds of a model side by side: their arrays are stacked [S, ...], functions of one are mapped over them.

Nothing is computed in another way for it: ``by_seed`` is ``jax.vmap``, and each seed has the data and the draws that it
has alone. Its sums are rounded in another order, as the products of S models are one larger product.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from icrl.core.types import Array

Tree = TypeVar("Tree")


def by_seed(function: Callable[..., Any], step: Array) -> Callable[..., Any]:
    """``function`` of one model, or where ``step``, the number of the step, is [S] of S of them.

    Integers [S] among its arguments count steps, which all seeds have done as many of: what follows from them alone, as
    the learning rate, is computed once. (As vectors, powers of Adam's decays were rounded otherwise on two devices.)
    """
    if not step.ndim:
        return function

    def mapped(*trees: Any) -> Any:
        axes = jax.tree.map(lambda leaf: None if _counts(leaf) else 0, trees)
        return jax.vmap(function, axes)(*jax.tree.map(lambda leaf: leaf[0] if _counts(leaf) else leaf, trees))

    return mapped


def _counts(leaf: Array) -> bool:
    return leaf.ndim == 1 and bool(jnp.issubdtype(leaf.dtype, jnp.integer))


def stacked(trees: Sequence[Tree]) -> Tree:
    """Trees of S seeds as one with leading axes [S]; that of one seed as it is."""
    return trees[0] if len(trees) == 1 else _stack(*trees)


def unstacked(tree: Tree, count: int) -> list[Tree]:
    """The trees of the ``count`` seeds that ``stacked`` joined."""
    return [tree] if count == 1 else [_member(tree, seed) for seed in range(count)]


@jax.jit
def _stack(*trees: Any) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


@jax.jit
def _member(tree: Any, seed: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[seed], tree)
