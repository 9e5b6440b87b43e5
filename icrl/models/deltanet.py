"""DeltaNet (Yang et al. 2024, "Parallelizing linear transformers with the delta rule over sequence length").

S <- S (I - beta k k^T) + beta v k^T, o = S q / sqrt(d_k): a write replaces, in part beta, what stood under its key, and
nothing fades. q, k and v pass a short convolution and SiLU; q and k have length 1; beta = sigmoid(.). The output is
RMS-normalised per head. The rule, and its chunks, are in ``delta_rule.py``.
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


@dataclasses.dataclass(frozen=True)
class DeltaNetConfig(StackConfig):
    """Shape of the model."""

    num_heads: int = setting(2, low=1, high="width", help="H, heads; divides width")
    conv_taps: int = setting(4, low=1, high=64, help="inputs the short convolutions see")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.width % self.num_heads == 0, "num_heads", self.num_heads, f"a divisor of width {self.width}")


class DeltaNetState(NamedTuple):
    """What one layer remembers."""

    window: Array  # [taps - 1, 3 D] float32, latest inputs of the convolutions
    S: Array  # [H, d, d] float32


class DeltaNetMixer(Mixer):
    """The delta rule between projections."""

    def __init__(self, config: DeltaNetConfig, rngs: nnx.Rngs):
        D, self.H = config.width, config.num_heads
        self.d = D // self.H
        self.qkv = linear(config.matmuls, D, 3 * D, rngs, use_bias=False)
        self.conv = ShortConv(3 * D, config.conv_taps, rngs)
        self.beta = linear(config.matmuls, D, self.H, rngs, use_bias=False)
        self.norm = nnx.RMSNorm(self.d, epsilon=1e-5, rngs=rngs)
        self.mix = linear(config.matmuls, D, D, rngs, use_bias=False)

    def initial_carry(self) -> DeltaNetState:
        return DeltaNetState(self.conv.initial_carry(), jnp.zeros((self.H, self.d, self.d), jnp.float32))

    def __call__(self, u: Array, start: Array, carry: DeltaNetState) -> tuple[Array, DeltaNetState]:
        length = u.shape[0]
        qkv, window = self.conv(self.qkv(u), start, carry.window)
        q, k, v = jnp.split(jax.nn.silu(qkv).reshape(length, self.H, -1), 3, axis=-1)
        beta = jax.nn.sigmoid(self.beta(u))
        nothing_fades = jnp.zeros_like(beta)
        q = unit_length(q) * self.d**-0.5
        o, S = gated_delta_rule(q, unit_length(k), v, nothing_fades, beta, start, carry.S)
        return self.mix(self.norm(o).reshape(length, -1)), DeltaNetState(window, S)


@models.register("deltanet", paper="Yang et al. 2024, NeurIPS")
class DeltaNet(ResidualStack):
    """The delta rule in the blocks of a transformer, without positions."""

    Config = DeltaNetConfig
    Mixer = DeltaNetMixer
