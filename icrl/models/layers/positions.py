"""How a transformer knows where a token stands: three codes of its position, the number of tokens since the start.

A learned table is the transformer's own parameter; the other two are formulas and hold for any length.
"""

import jax.numpy as jnp

from icrl.core.types import Array

BASE = 10_000.0  # of the wavelengths, 2 pi .. 2 pi BASE


def _angles(position: Array, pairs: int) -> Array:
    """The angles position / BASE^(i / pairs), i = 0 .. pairs - 1, [T, pairs] float32."""
    return position[:, None].astype(jnp.float32) * BASE ** (-jnp.arange(pairs, dtype=jnp.float32)[None] / pairs)


def sinusoidal(position: Array, width: int) -> Array:
    """[T, D]: sines, then cosines, of positions [T] at D / 2 wavelengths (Vaswani et al. 2017, section 3.5).

    The paper has sine and cosine of a wavelength side by side; the order of features is of no consequence.
    """
    angles = _angles(position, width // 2)
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def rotated(x: Array, position: Array) -> Array:
    """Features i and i + d / 2 of x [T, H, d] turned by position / BASE^(2i / d) (Su et al. 2021, RoPE).

    The product of a turned query and a turned key depends on their distance alone.
    """
    angles = _angles(position, x.shape[-1] // 2)[:, None]
    cos, sin = jnp.cos(angles).astype(x.dtype), jnp.sin(angles).astype(x.dtype)
    low, high = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([low * cos - high * sin, high * cos + low * sin], axis=-1)
