"""The short causal convolution in front of several recurrences, with its window as state."""

import jax.numpy as jnp
from flax import nnx

from icrl.core.types import Array


class ShortConv(nnx.Module):
    """y_t = sum_j w_j x_{t-j} + bias for each of E features, j = 0 .. k - 1, within the steps since the last start.

    Weights and bias are drawn from U(-1, 1) / sqrt(k), as for a depthwise convolution.
    """

    def __init__(self, features: int, taps: int, rngs: nnx.Rngs):
        init = nnx.initializers.uniform(2.0)
        self.features, self.taps = features, taps
        self.w = nnx.Param((init(rngs.params(), (taps, features), jnp.float32) - 1.0) / taps**0.5)
        self.bias = nnx.Param((init(rngs.params(), (features,), jnp.float32) - 1.0) / taps**0.5)

    def initial_carry(self) -> Array:
        """The window of an empty past, [k - 1, E]."""
        return jnp.zeros((self.taps - 1, self.features), jnp.float32)

    def __call__(self, x: Array, start: Array, window: Array) -> tuple[Array, Array]:
        """Map x [T, E] with start [T] and the latest k - 1 inputs to (y [T, E], the window after them)."""
        before, length = self.taps - 1, x.shape[0]
        past = jnp.concatenate([window, x.astype(window.dtype)])
        segment = jnp.cumsum(jnp.pad(start.astype(jnp.int32), (before, 0)))
        y = self.bias[None]
        for lag in range(self.taps):  # a tap over a start would leak the episode before
            low = before - lag
            same = segment[low : low + length] == segment[before:]
            y = y + self.w[None, lag] * jnp.where(same[:, None], past[low : low + length], 0)
        kept = jnp.where((segment == segment[-1])[:, None], past, 0)
        return y, kept[length:]
