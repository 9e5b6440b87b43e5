"""States of many kinds, and what tells two of them apart: for the tests of checkpoints (importable by scripts too)."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax


def small_state(number: int = 0) -> dict:
    params = {"layer": [{"w": jnp.full((4, 3), number + 0.5), "b": jnp.arange(3.0)}], "scale": jnp.float32(number)}
    return {"params": params, "optimizer": optax.adamw(1e-3).init(params), "key": jax.random.key(number)}


def plain_state(number: int) -> dict:
    """Nothing to compile: for the tests that save very often."""
    return {"w": np.full((16, 16), number, np.float32), "step": np.int32(number)}


def same_bits(one, two) -> bool:
    def data(leaf):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return str(leaf.dtype), leaf.shape, np.asarray(jax.random.key_data(leaf) if is_key else leaf).tobytes()

    leaves = zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True)
    return jax.tree.structure(one) == jax.tree.structure(two) and all(data(a) == data(b) for a, b in leaves)


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
