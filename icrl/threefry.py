"""Threefry-2x32 written out, for samplers that need many numbers a step (Salmon et al. 2011, Parallel Random Numbers).

The generator behind ``jax.random``, whose rounds jax runs as a loop on CPU, and of whose two words it uses one:
written out, and with both words used, a number costs a fraction of that.
"""

import jax
import jax.numpy as jnp

from icrl.types import Array

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA


def threefry(key: tuple[Array, Array], x0: Array, x1: Array) -> tuple[Array, Array]:
    """The two words of the block cipher with 20 rounds, for uint32 counters x0 and x1 of one shape."""
    schedule = (*key, key[0] ^ key[1] ^ jnp.uint32(PARITY))
    x0, x1 = x0 + schedule[0], x1 + schedule[1]
    for group in range(5):
        for distance in ROTATIONS[group % 2]:
            x0 = x0 + x1
            x1 = ((x1 << distance) | (x1 >> (32 - distance))) ^ x0
        x0 = x0 + schedule[(group + 1) % 3]
        x1 = x1 + schedule[(group + 2) % 3] + jnp.uint32(group + 1)
    return x0, x1


def uniform_pairs(key: Array, block: Array, size: int) -> tuple[Array, Array]:
    """Two times ``size`` independent uniform numbers in (0, 1), [size] float32 each, of 23 bits.

    ``block`` [] uint32 counts calls with the same typed threefry key; key and block together are to be used once.
    """
    data = jax.random.key_data(key)
    words = threefry((data[0], data[1]), jnp.full(size, block), jnp.arange(size, dtype=jnp.uint32))
    first, second = (((word >> 9).astype(jnp.int32).astype(jnp.float32) + 0.5) * 2.0**-23 for word in words)
    return first, second
