"""Gated DeltaNet (Yang et al. 2024, "Gated delta networks: improving Mamba2 with delta rule").

S <- alpha S (I - beta k k^T) + beta v k^T, o = S q / sqrt(d_k): all fades by alpha, and what stood under the key k is
replaced, in part beta, by v. q, k and v pass a short convolution and SiLU; q and k have length 1. beta = sigmoid(.),
log alpha = -exp(A_log) softplus(. + dt_bias). The output is RMS-normalised per head and gated by SiLU. The rule, and
its chunks, are in ``delta_rule.py``.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from icrl.core.errors import require
from icrl.core.fields import setting
from icrl.core.registry import models
from icrl.core.types import Array
from icrl.models.layers.delta_rule import gated_delta_rule, unit_length
from icrl.models.layers.linear import linear
from icrl.models.layers.residual import Mixer, ResidualStack, StackConfig
from icrl.models.layers.short_conv import ShortConv
from icrl.models.mamba import initial_steps, inverse_softplus


@dataclasses.dataclass(frozen=True)
class GatedDeltaNetConfig(StackConfig):
    """Shape of the model."""

    num_heads: int = setting(2, low=1, high="width", help="H, heads; divides width; d_k = width / H")
    expand_v: int = setting(2, low=1, high=64, help="d_v / d_k")
    conv_taps: int = setting(4, low=1, high=64, help="inputs the short convolutions see")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.width % self.num_heads == 0, "num_heads", self.num_heads, f"a divisor of width {self.width}")


class GatedDeltaNetState(NamedTuple):
    """What one layer remembers."""

    window: Array  # [taps - 1, H (2 d_k + d_v)] float32, latest inputs of the convolutions
    S: Array  # [H, d_k, d_v] float32


class GatedDeltaNetMixer(Mixer):
    """The gated delta rule between projections."""

    def __init__(self, config: GatedDeltaNetConfig, rngs: nnx.Rngs):
        D, H = config.width, config.num_heads
        self.H, self.d_k, self.d_v = H, D // H, config.expand_v * (D // H)
        features = H * (2 * self.d_k + self.d_v)
        self.qkv = linear(config.matmuls, D, features, rngs, use_bias=False)
        self.conv = ShortConv(features, config.conv_taps, rngs)
        self.ab = linear(config.matmuls, D, 2 * H, rngs, use_bias=False)
        self.A_log = nnx.Param(jnp.log(jax.random.uniform(rngs.params(), (H,), jnp.float32, minval=1e-3, maxval=16.0)))
        self.dt_bias = nnx.Param(inverse_softplus(initial_steps(rngs.params(), H)))
        self.norm = nnx.RMSNorm(self.d_v, epsilon=1e-5, rngs=rngs)
        self.gate = linear(config.matmuls, D, H * self.d_v, rngs, use_bias=False)
        self.mix = linear(config.matmuls, H * self.d_v, D, rngs, use_bias=False)

    def initial_carry(self) -> GatedDeltaNetState:
        return GatedDeltaNetState(self.conv.initial_carry(), jnp.zeros((self.H, self.d_k, self.d_v), jnp.float32))

    def __call__(self, u: Array, start: Array, carry: GatedDeltaNetState) -> tuple[Array, GatedDeltaNetState]:
        length = u.shape[0]
        qkv, window = self.conv(self.qkv(u), start, carry.window)
        qkv = jax.nn.silu(qkv).reshape(length, self.H, -1)
        q, k, v = jnp.split(qkv, [self.d_k, 2 * self.d_k], axis=-1)
        a, b = jnp.split(self.ab(u), 2, axis=-1)
        log_alpha = -jnp.exp(self.A_log[None]) * jax.nn.softplus(a + self.dt_bias[None])
        q = unit_length(q) * self.d_k**-0.5
        o, S = gated_delta_rule(q, unit_length(k), v, log_alpha, jax.nn.sigmoid(b), start, carry.S)
        gated = self.norm(o) * jax.nn.silu(self.gate(u)).reshape(o.shape)
        return self.mix(gated.reshape(length, -1)), GatedDeltaNetState(window, S)


@models.register("gated-deltanet", paper="Yang et al. 2024")
class GatedDeltaNet(ResidualStack):
    """Gated delta rule in the blocks of a transformer, without positions."""

    Config = GatedDeltaNetConfig
    Mixer = GatedDeltaNetMixer
