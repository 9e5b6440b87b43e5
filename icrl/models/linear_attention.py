"""Linear attention (Katharopoulos et al. 2020, "Transformers are RNNs"), equations 16-20.

S <- S + phi(k) v^T, z <- z + phi(k), o = S^T phi(q) / (z . phi(q)) with phi(x) = elu(x) + 1 > 0. The normaliser z is
kept as one more column of S: the one that a constant value 1 writes.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from icrl.core.errors import require
from icrl.core.fields import setting
from icrl.core.registry import models
from icrl.core.types import Array
from icrl.models.layers.linear import linear
from icrl.models.layers.matrix_memory import gated_memory
from icrl.models.layers.residual import Mixer, ResidualStack, StackConfig

EPSILON = 1e-6  # keeps 0 / 0 away when all of phi(q) underflows


@dataclasses.dataclass(frozen=True)
class LinearAttentionConfig(StackConfig):
    """Shape of the model."""

    num_heads: int = setting(4, low=1, high="width", help="H, heads; divides width")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.width % self.num_heads == 0, "num_heads", self.num_heads, f"a divisor of width {self.width}")


class LinearAttentionMixer(Mixer):
    """State [H, d, d + 1] for heads of d features: S and, last, z."""

    def __init__(self, config: LinearAttentionConfig, rngs: nnx.Rngs):
        self.num_heads, self.dim = config.num_heads, config.width // config.num_heads
        self.qkv = linear(config.matmuls, config.width, 3 * config.width, rngs)
        self.mix = linear(config.matmuls, config.width, config.width, rngs)

    def initial_carry(self) -> Array:
        return jnp.zeros((self.num_heads, self.dim, self.dim + 1), jnp.float32)

    def __call__(self, u: Array, start: Array, carry: Array) -> tuple[Array, Array]:
        length = u.shape[0]
        q, k, v = self.qkv(u).reshape(length, 3, self.num_heads, self.dim).swapaxes(0, 1)
        v = jnp.concatenate([v, jnp.ones_like(v[..., :1])], axis=-1)
        log_a = jnp.zeros((length, self.num_heads), carry.dtype)  # nothing fades
        o, carry = gated_memory(jax.nn.elu(q) + 1, jax.nn.elu(k) + 1, v, log_a, start, carry)
        o = o[..., :-1] / (o[..., -1:] + EPSILON)
        return self.mix(o.reshape(length, -1)), carry


@models.register("linear-attention", paper="Katharopoulos et al. 2020")
class LinearAttention(ResidualStack):
    """Linear attention in the blocks of a transformer, without positions."""

    Config = LinearAttentionConfig
    Mixer = LinearAttentionMixer
