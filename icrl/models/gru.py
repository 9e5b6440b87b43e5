"""Gated recurrent unit (Cho et al. 2014, "Learning phrase representations using RNN encoder-decoder").

r = sigmoid(W_r u + U_r h);  z = sigmoid(W_z u + U_z h);  n = tanh(W u + r * (U h + c));  h <- z h + (1 - z) n.

Departures: r multiplies U h and not h, so that all products with h are one matrix (as in cuDNN); U is lecun normal and
not orthogonal, which would need a QR factorisation.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from icrl.core.registry import models
from icrl.core.types import Array
from icrl.models.layers.linear import linear
from icrl.models.layers.residual import Mixer, ResidualStack, StackConfig


class GRUMixer(Mixer):
    """State h [D]; W and U hold the rows of r, z and n side by side."""

    def __init__(self, config: StackConfig, rngs: nnx.Rngs):
        self.width = config.width
        self.W = linear(config.matmuls, self.width, 3 * self.width, rngs)
        self.U = nnx.Param(nnx.initializers.lecun_normal()(rngs.params(), (self.width, 3 * self.width), jnp.float32))
        self.c = nnx.Param(jnp.zeros(self.width, jnp.float32))

    def initial_carry(self) -> Array:
        return jnp.zeros(self.width, jnp.float32)

    def __call__(self, u: Array, start: Array, carry: Array) -> tuple[Array, Array]:
        h, y = jax.lax.scan(self._step, carry, (self.W(u).astype(carry.dtype), start))
        return y, h

    def _step(self, h: Array, item: tuple[Array, Array]) -> tuple[Array, Array]:
        Wu, start = item
        h = jnp.where(start, 0, h)
        W_r, W_z, W_n = jnp.split(Wu, 3)
        U_r, U_z, U_n = jnp.split(h @ self.U[...], 3)
        r, z = jax.nn.sigmoid(W_r + U_r), jax.nn.sigmoid(W_z + U_z)
        n = jnp.tanh(W_n + r * (U_n + self.c[...]))
        h = z * h + (1 - z) * n
        return h, h


@models.register("gru", paper="Cho et al. 2014")
class GRU(ResidualStack):
    """GRU layers in residual blocks."""

    Config = StackConfig
    Mixer = GRUMixer
