"""Long short-term memory (Hochreiter, Schmidhuber 1997) with forget gates (Gers et al. 2000).

i, f, o = sigmoid(W u + U h);  g = tanh(W u + U h);  c <- f c + i g;  h <- o tanh(c).

The bias of the forget gate begins at 1 (Jozefowicz et al. 2015), so that a new network remembers. U is lecun normal.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from icrl.core.registry import models
from icrl.core.types import Array
from icrl.models.layers.linear import linear
from icrl.models.layers.residual import Mixer, ResidualStack, StackConfig


class LSTMState(NamedTuple):
    """What one layer remembers."""

    c: Array  # [D] float32, cells
    h: Array  # [D] float32, their output


class LSTMMixer(Mixer):
    """W and U hold the rows of i, f, g and o side by side."""

    def __init__(self, config: StackConfig, rngs: nnx.Rngs):
        self.width = config.width
        self.W = linear(config.matmuls, self.width, 4 * self.width, rngs, use_bias=False)
        self.U = nnx.Param(nnx.initializers.lecun_normal()(rngs.params(), (self.width, 4 * self.width), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((4, self.width), jnp.float32).at[1].set(1.0))

    def initial_carry(self) -> LSTMState:
        return LSTMState(jnp.zeros(self.width, jnp.float32), jnp.zeros(self.width, jnp.float32))

    def __call__(self, u: Array, start: Array, carry: LSTMState) -> tuple[Array, LSTMState]:
        Wu = self.W(u) + self.bias[...].reshape(1, -1)
        carry, y = jax.lax.scan(self._step, carry, (Wu.astype(carry.c.dtype), start))
        return y, carry

    def _step(self, state: LSTMState, item: tuple[Array, Array]) -> tuple[LSTMState, Array]:
        Wu, start = item
        c, h = jnp.where(start, 0, state.c), jnp.where(start, 0, state.h)
        i, f, g, o = jnp.split(Wu + h @ self.U[...], 4)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return LSTMState(c, h), h


@models.register("lstm", paper="Hochreiter, Schmidhuber 1997; Gers et al. 2000")
class LSTM(ResidualStack):
    """LSTM layers in residual blocks."""

    Config = StackConfig
    Mixer = LSTMMixer
