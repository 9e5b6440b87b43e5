"""Many futures of one past: a model reads on from its memory in many ways, and what they share is not copied.

Caches of attention are most of a memory, and no future changes what is in them. So a memory is parted into a trunk and
branches: a branch has the slots of its own positions alone, and the memory of layers that are recurrent.
"""

from collections.abc import Callable
from typing import Any

import jax

from icrl.core.types import Array
from icrl.models.layers.cached_attention import Cache, ForkedCache, Memory, Ring, forked

Read = Callable[[Array, Any], tuple[Array, Any]]


def futures(policy: Any, carry: Any, room: int) -> tuple[Read, Any]:
    """(read, branch) of the memory ``carry`` of a policy, each future with room for ``room`` tokens.

    ``read`` maps tokens [T, D] and the branch of one future to (outputs [T, ...], branch), as the policy itself maps
    them and its memory; under ``vmap`` over futures the trunk stays one. A memory without caches of attention is a
    branch as it is.
    """
    trunk = jax.tree.map(
        lambda leaf: forked(leaf, room) if isinstance(leaf, (Cache, Ring)) else leaf, carry, is_leaf=_is_memory
    )

    def read(tokens: Array, branch: Any) -> tuple[Array, Any]:
        outputs, after = policy(tokens, None, _joined(trunk, branch))
        return outputs, _parted(after)

    return read, _parted(trunk)


def _is_memory(leaf: Any) -> bool:
    """Whether it is one of attention."""
    return isinstance(leaf, Memory)


def _parted(carry: Any) -> Any:
    """What is a future's own: of a cache its branch and length."""
    return jax.tree.map(lambda leaf: leaf[1:] if isinstance(leaf, ForkedCache) else leaf, carry, is_leaf=_is_memory)


def _joined(trunk: Any, branch: Any) -> Any:
    """The memory of one future."""

    def leaf(shared: Any, own: Any) -> Any:
        return ForkedCache(shared.trunk, *own) if isinstance(shared, ForkedCache) else own

    return jax.tree.map(leaf, trunk, branch, is_leaf=_is_memory)
