"""S training seeds of a model side by side: their arrays are stacked [S, ...], functions of one are mapped over them.

Nothing is computed in another way for it: ``by_seed`` is ``jax.vmap``, and each seed has the data and the draws that it
has alone. Its sums are rounded in another order, as the products of S models are one larger product.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from icrl.core.types import Array
from icrl.datasets.contexts import Batches, OnlyHistories, differ_in_stream, fetch_side_by_side

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


def batches_of(seeds: Sequence[Callable[[int], Any]]) -> Callable[[int], Any]:
    """Step -> the batches of S seeds, ``stacked``, from their own functions of the step.

    Contexts that are generated as training goes are made in one call, as a rollout is many small kernels in a row.
    """
    if len(seeds) > 1 and all(isinstance(each, OnlyHistories) for each in seeds):
        contexts = batches_of([each.contexts for each in seeds])  # type: ignore[attr-defined]
        return lambda step: contexts(step).history
    if len(seeds) > 1 and all(isinstance(each, Batches) and not each.shuffle for each in seeds):
        sources = [each.contexts for each in seeds]  # type: ignore[attr-defined]
        if differ_in_stream(sources):
            return lambda step: fetch_side_by_side(sources, np.stack([each.ids(step) for each in seeds]))  # type: ignore[attr-defined]
    return lambda step: stacked([each(step) for each in seeds])


@jax.jit
def _stack(*trees: Any) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


@jax.jit
def _member(tree: Any, seed: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[seed], tree)
