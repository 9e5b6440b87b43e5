"""All randomness is a function of (root seed, purpose, ids): which task, which step, which training seed.

Keys are typed threefry keys derived by ``fold_in``, so any task or step can be produced alone, in any order and by any
number of workers, with the same result. Purposes are words; two purposes never share a stream.
"""

import zlib

import jax
import numpy as np

from icrl.core.errors import require_int
from icrl.core.forks import refuse_after_fork
from icrl.core.types import Array

MAX_SEED = 2**32 - 1  # jax.random.key takes 32 bits without x64 and wraps larger seeds silently


def key_for(seed: int, purpose: str, *ids: int | np.uint32 | Array) -> Array:
    """Return the typed key of ``purpose`` (and of ``ids``, folded in one by one) under the root ``seed``.

    All that draws begins here, so that a process in which jax cannot compute any more is told so here.
    """
    refuse_after_fork()
    root = jax.random.key(require_int("seed", seed, 0, MAX_SEED), impl="threefry2x32")
    key = jax.random.fold_in(root, zlib.crc32(purpose.encode()))
    for number in ids:
        key = jax.random.fold_in(key, number)
    return key


def keys_for(key: Array, ids: Array) -> Array:
    """One key per id: keys [N] for ids [N] uint32 or int32; id i has the same key whatever else is in the batch."""
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, ids)
