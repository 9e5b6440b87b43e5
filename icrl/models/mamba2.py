"""Mamba-2, the state space dual (Dao, Gu 2024, "Transformers are SSMs").

(z, x, B, C, dt) = in_proj(u);  (x, B, C) = SiLU(conv(x, B, C));  Delta = softplus(dt + dt_bias);
h <- exp(Delta A) h + Delta B x^T;  y = h^T C + D x;  out = out_proj(RMSNorm(y SiLU(z))).

A is one negative number a head, so a chunk of steps is a product of matrices (there, section 6): the memory of
``matrix_memory`` with C, B and Delta x for q, k and v. Letters: E = expand D channels in H heads of P, N states of a
channel; B and C are shared by all heads. A begins uniform in -16 .. -1. Departures: LayerNorm in front instead of
RMSNorm; weight decay is the optimiser's and spares no parameter.
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
from icrl.models.layers.linear import linear
from icrl.models.layers.matrix_memory import gated_memory
from icrl.models.layers.residual import Mixer, ResidualStack, StackConfig
from icrl.models.layers.short_conv import ShortConv
from icrl.models.mamba import initial_steps, inverse_softplus


@dataclasses.dataclass(frozen=True)
class Mamba2Config(StackConfig):
    """Shape of the model."""

    block: str = "none"
    num_heads: int = setting(4, low=1, high="channels", help="H, heads; divides E")
    state_size: int = setting(32, low=1, high=2**16, help="N, states of a channel")
    expand: int = setting(2, low=1, high=64, help="E / width, where E is the inner width")
    conv_taps: int = setting(4, low=1, high=64, help="inputs the short convolution sees")

    def __post_init__(self) -> None:
        super().__post_init__()
        fits = self.channels % self.num_heads == 0
        require(fits, "num_heads", self.num_heads, f"a divisor of expand width {self.channels}")

    @property
    def channels(self) -> int:
        """E, the inner width."""
        return self.expand * self.width

    @property
    def sizes(self) -> tuple[str, ...]:
        return (*super().sizes, "state_size")


class Mamba2State(NamedTuple):
    """What one layer remembers."""

    window: Array  # [taps - 1, E + 2 N] float32, latest inputs of the convolution
    h: Array  # [H, N, P] float32


class Mamba2Mixer(Mixer):
    """The scalar state space between two projections."""

    def __init__(self, config: Mamba2Config, rngs: nnx.Rngs):
        D, H, N = config.width, config.num_heads, config.state_size
        E = config.expand * D
        self.E, self.H, self.N, self.P = E, H, N, E // H
        out_init = nnx.initializers.variance_scaling(1.0 / config.num_layers, "fan_in", "truncated_normal")
        self.in_proj = linear(config.matmuls, D, 2 * E + 2 * N + H, rngs, use_bias=False)
        self.conv = ShortConv(E + 2 * N, config.conv_taps, rngs)
        self.dt_bias = nnx.Param(inverse_softplus(initial_steps(rngs.params(), H)))
        self.A_log = nnx.Param(jnp.log(jax.random.uniform(rngs.params(), (H,), jnp.float32, minval=1.0, maxval=16.0)))
        self.D = nnx.Param(jnp.ones(H, jnp.float32))
        self.norm = nnx.RMSNorm(E, epsilon=1e-5, rngs=rngs)
        self.out_proj = linear(config.matmuls, E, D, rngs, use_bias=False, kernel_init=out_init)

    def initial_carry(self) -> Mamba2State:
        return Mamba2State(self.conv.initial_carry(), jnp.zeros((self.H, self.N, self.P), jnp.float32))

    def __call__(self, u: Array, start: Array, carry: Mamba2State) -> tuple[Array, Mamba2State]:
        length, E, N = u.shape[0], self.E, self.N
        z, xBC, dt = jnp.split(self.in_proj(u), [E, 2 * E + 2 * N], axis=-1)
        xBC, window = self.conv(xBC, start, carry.window)
        x, B, C = jnp.split(jax.nn.silu(xBC), [E, E + N], axis=-1)
        x = x.reshape(length, self.H, self.P)
        Delta = jax.nn.softplus(dt + self.dt_bias[None])
        log_a = -jnp.exp(self.A_log[None]) * Delta
        y, h = gated_memory(C[:, None], B[:, None], Delta[..., None] * x, log_a, start, carry.h)
        y = (y + self.D[None, :, None] * x).reshape(length, E)
        return self.out_proj(self.norm(y * jax.nn.silu(z))), Mamba2State(window, h)


@models.register("mamba2", paper="Dao, Gu 2024")
class Mamba2(ResidualStack):
    """Mamba-2 layers in residual blocks, without MLPs."""

    Config = Mamba2Config
    Mixer = Mamba2Mixer
