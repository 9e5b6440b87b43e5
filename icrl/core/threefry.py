"""The draws of ``jax.random`` written out, for what draws at every step of many lives.

On a CPU jax runs the rounds of its generator, Threefry-2x32 (Salmon et al. 2011, "Parallel random numbers"), as a loop
of kernels of their own. Written out, a draw becomes a part of the kernel that uses it: UCB on bandits lives twice as
many steps a second, a uniform player in rooms five times (2026-11-26, two cores, `benchmarks`). So does a key of
``fold_in`` or ``apart``; ``stored`` puts it in memory, where many results need its draws.

``fold_in``, ``split``, ``apart``, ``bits``, ``uniform``, ``normal``, ``bernoulli``, ``randint``, ``gumbel`` and
``categorical`` give the bits of those of ``jax.random`` for typed threefry keys (a range of ``uniform`` but for
rounding), and are those for all other keys, and for all keys where ``jax_threefry_partitionable`` is off. ``words``,
``below``, ``fraction`` and ``uniform_pairs`` have no counterpart there: they waste no words.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA
IMPLEMENTATION = "threefry2x32"


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


def fold_in(key: Array, data: int | Array) -> Array:
    """The key of ``data`` [] uint32 under ``key``."""
    if not _is_ours(key):
        return jax.random.fold_in(key, data)
    return _wrapped(threefry(_halves(key), jnp.uint32(0), jnp.asarray(data, jnp.uint32)))


def split(key: Array, num: int = 2) -> Array:
    """Keys [num]."""
    if not _is_ours(key):
        return jax.random.split(key, num)
    count = jnp.arange(num, dtype=jnp.uint32)
    halves = threefry(_halves(key), jnp.zeros_like(count), count)
    return jax.random.wrap_key_data(jnp.stack(halves, axis=-1), impl=IMPLEMENTATION)


def apart(key: Array, num: int = 2) -> tuple[Array, ...]:
    """The keys of ``split``, each by itself: it is computed where it is used, and one that is not used nowhere."""
    if not _is_ours(key):
        return tuple(jax.random.split(key, num))
    halves = _halves(key)
    return tuple(_wrapped(threefry(halves, jnp.uint32(0), jnp.uint32(count))) for count in range(num))


def stored(key: Array) -> Array:
    """``key``, put in memory by what makes it: for one that many results need, which else would all make it anew."""
    return jax.random.wrap_key_data(jnp.stack(_halves(key), axis=-1), impl=IMPLEMENTATION) if _is_ours(key) else key


def bits(key: Array, shape: tuple[int, ...] = ()) -> Array:
    """Random words [*shape] uint32, fewer than 2^32; ``key`` is consumed."""
    if not _is_ours(key):
        return jax.random.bits(key, shape, jnp.uint32)
    count = jnp.arange(math.prod(shape), dtype=jnp.uint32).reshape(shape)
    high, low = threefry(_halves(key), jnp.zeros_like(count), count)
    return high ^ low


def uniform(key: Array, shape: tuple[int, ...] = (), minval: float = 0.0, maxval: float = 1.0) -> Array:
    """Uniform numbers in [minval, maxval), [*shape] float32; ``key`` is consumed."""
    low, high = jnp.float32(minval), jnp.float32(maxval)
    # the word's upper 23 bits behind the point of a float in [1, 2)
    floats = jax.lax.bitcast_convert_type((bits(key, shape) >> 9) | np.float32(1).view(np.uint32), jnp.float32) - 1
    return jnp.maximum(low, floats * (high - low) + low)


def normal(key: Array, shape: tuple[int, ...] = ()) -> Array:
    """Standard normal numbers [*shape] float32; ``key`` is consumed."""
    return normal_at(symmetric(key, shape))


def symmetric(key: Array, shape: tuple[int, ...] = ()) -> Array:
    """Uniform numbers in (-1, 1), [*shape] float32; ``key`` is consumed."""
    return uniform(key, shape, np.nextafter(np.float32(-1), np.float32(0)), 1.0)


def normal_at(level: Array) -> Array:
    """The standard normal numbers that ``normal`` makes of ``level``, uniform in (-1, 1)."""
    return np.float32(np.sqrt(2)) * jax.lax.erf_inv(level)


def bernoulli(key: Array, p: Array | float = 0.5, shape: tuple[int, ...] = ()) -> Array:
    """True with probability ``p`` [] or [*shape] float32, [*shape] bool; ``key`` is consumed."""
    return uniform(key, shape) < jnp.asarray(p, jnp.float32)


def randint(key: Array, shape: tuple[int, ...], minval: int, maxval: int) -> Array:
    """Uniform integers in minval .. maxval - 1, [*shape] int32; ``key`` is consumed; ``below`` wastes none."""
    if not _is_ours(key):
        return jax.random.randint(key, shape, minval, maxval, jnp.int32)
    key_high, key_low = split(key)
    span = max(maxval - minval, 1)
    high, low = (bits(each, shape) % jnp.uint32(span) for each in (key_high, key_low))
    # of the number high 2^32 + low of 64 bits; products wrap around where jax's do
    offset = (high * jnp.uint32((2**16 % span) ** 2 % 2**32 % span) + low) % jnp.uint32(span)
    return jnp.int32(minval) + offset.astype(jnp.int32)


def gumbel(key: Array, shape: tuple[int, ...] = ()) -> Array:
    """Standard Gumbel numbers [*shape] float32, at most 16; ``key`` is consumed."""
    if not _is_ours(key) or jax.config.jax_high_dynamic_range_gumbel:  # type: ignore[attr-defined]
        return jax.random.gumbel(key, shape, jnp.float32)
    return -jnp.log(-jnp.log(uniform(key, shape, float(jnp.finfo(jnp.float32).tiny))))


def categorical(key: Array, logits: Array) -> Array:
    """A number in 0 .. K - 1 with the probabilities of the softmax of ``logits`` [K], int32; ``key`` is consumed."""
    return jnp.argmax(gumbel(key, logits.shape) + logits, axis=-1).astype(jnp.int32)


def words(key: Array, count: int) -> tuple[Array, ...]:
    """Independent words [] uint32, ``count`` of them, two of each block; ``key`` is consumed."""
    if not _is_ours(key):
        return tuple(jax.random.bits(key, (count,), jnp.uint32))
    blocks = [threefry(_halves(key), jnp.uint32(0), jnp.uint32(block)) for block in range(-(-count // 2))]
    return tuple(word for block in blocks for word in block)[:count]


def below(word: Array, count: int | Array) -> Array:
    """Uniform integers in 0 .. count - 1, int32, for words and counts up to 2^16 that broadcast.

    The upper half of the product word * count, so that none is more likely than another by more than count / 2^32.
    ``jax.random.randint`` splits its key and takes two words a number.
    """
    count = jnp.asarray(count, jnp.uint32)
    high, low = word >> 16, word & 0xFFFF
    return ((high * count + (low * count >> 16)) >> 16).astype(jnp.int32)


def fraction(word: Array) -> Array:
    """Uniform numbers in [0, 1), multiples of 2^-24, float32, one of each word."""
    return (word >> 8).astype(jnp.int32).astype(jnp.float32) * 2.0**-24


def uniform_pairs(key: Array, block: Array, size: int) -> tuple[Array, Array]:
    """Two times ``size`` independent uniform numbers in (0, 1), [size] float32 each, of 23 bits.

    ``block`` [] uint32 counts calls with the same typed threefry key; key and block together are to be used once.
    """
    found = threefry(_halves(key), jnp.full(size, block), jnp.arange(size, dtype=jnp.uint32))
    first, second = (((word >> 9).astype(jnp.int32).astype(jnp.float32) + 0.5) * 2.0**-23 for word in found)
    return first, second


def _is_ours(key: Array) -> bool:
    """Whether ``key`` is a typed key of this generator, in the form that jax gives it by default.

    None is while jax watches that keys are used once.
    """
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    watched = jax.config.jax_debug_key_reuse  # type: ignore[attr-defined]
    default = jax.config.jax_threefry_partitionable  # type: ignore[attr-defined]
    return typed and str(jax.random.key_impl(key)) == IMPLEMENTATION and default and not watched


def _halves(key: Array) -> tuple[Array, Array]:
    assert key.ndim == 0, f"one key, not {key.shape}: map over them"
    data = jax.random.key_data(key)
    return data[0], data[1]


def _wrapped(halves: tuple[Array, Array]) -> Array:
    # Not jnp.stack: under vmap it ends in a transpose, behind which XLA does not see a half as what it is made of, and
    # puts each key in memory by a loop without vectors.
    data = jax.lax.concatenate([jnp.expand_dims(half, -1) for half in halves], halves[0].ndim)
    return jax.random.wrap_key_data(data, impl=IMPLEMENTATION)
