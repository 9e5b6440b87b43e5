"""Mamba, the selective state space S6 (Gu, Dao 2023, "Mamba: linear-time sequence modeling ...").

(x, z) = in_proj(u);  x = SiLU(conv(x));  (dt, B, C) = x_proj(x);  Delta = softplus(dt_proj(dt));
h <- exp(Delta A) h + Delta B x;  y = C . h + D x;  out = out_proj(y SiLU(z)).

Letters: E = expand D channels, N states of a channel, R the rank of dt. B enters by Euler's rule, Delta B, as in the
released code (the paper's text says zero-order hold). A is diagonal, -1 .. -N for every channel at first. Departures:
LayerNorm in front instead of RMSNorm; weight decay is the optimiser's and spares no parameter.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from icrl.core.fields import setting
from icrl.core.registry import models
from icrl.core.types import Array
from icrl.models.layers.diagonal_ssm import log_uniform
from icrl.models.layers.linear import linear
from icrl.models.layers.recurrence import DiagonalRecurrence
from icrl.models.layers.residual import Mixer, ResidualStack, StackConfig
from icrl.models.layers.short_conv import ShortConv


@dataclasses.dataclass(frozen=True)
class MambaConfig(StackConfig):
    """Shape of the model."""

    block: str = "none"
    state_size: int = setting(16, low=1, high=2**16, help="N, states of a channel")
    expand: int = setting(2, low=1, high=64, help="E / width, where E is the inner width")
    conv_taps: int = setting(4, low=1, high=64, help="inputs the short convolution sees")


class MambaState(NamedTuple):
    """What one layer remembers."""

    window: Array  # [taps - 1, E] float32, latest inputs of the convolution
    h: Array  # [E, N] float32


class MambaMixer(Mixer):
    """S6 between two projections."""

    def __init__(self, config: MambaConfig, rngs: nnx.Rngs):
        D, N = config.width, config.state_size
        E, R = config.expand * D, -(-D // 16)
        self.E, self.N, self.R = E, N, R
        out_init = nnx.initializers.variance_scaling(1.0 / config.num_layers, "fan_in", "truncated_normal")
        self.in_proj = linear(config.matmuls, D, 2 * E, rngs, use_bias=False)
        self.conv = ShortConv(E, config.conv_taps, rngs)
        self.x_proj = linear(config.matmuls, E, R + 2 * N, rngs, use_bias=False)
        self.dt_proj = nnx.Param((jax.random.uniform(rngs.params(), (R, E), jnp.float32) * 2 - 1) / R**0.5)
        self.dt_bias = nnx.Param(inverse_softplus(initial_steps(rngs.params(), E)))
        self.A_log = nnx.Param(jnp.broadcast_to(jnp.log(jnp.arange(1.0, N + 1.0, dtype=jnp.float32)), (E, N)))
        self.D = nnx.Param(jnp.ones(E, jnp.float32))
        self.out_proj = linear(config.matmuls, E, D, rngs, use_bias=False, kernel_init=out_init)

    def initial_carry(self) -> MambaState:
        return MambaState(self.conv.initial_carry(), jnp.zeros((self.E, self.N), jnp.float32))

    def __call__(self, u: Array, start: Array, carry: MambaState) -> tuple[Array, MambaState]:
        x, z = jnp.split(self.in_proj(u), 2, axis=-1)
        x, window = self.conv(x, start, carry.window)
        x = jax.nn.silu(x)
        dt, B, C = jnp.split(self.x_proj(x), [self.R, self.R + self.N], axis=-1)
        Delta = jax.nn.softplus(dt @ self.dt_proj[...] + self.dt_bias[None])
        A = -jnp.exp(self.A_log[...])
        scan = DiagonalRecurrence(
            lambda item: (jnp.exp(item[0][:, None] * A), (item[0] * item[1])[:, None] * item[2][None]),
            lambda h, item: h @ item[3],
        )
        y, h = scan((Delta, x, B, C), start, carry.h)
        return self.out_proj((y + self.D[None] * x) * jax.nn.silu(z)), MambaState(window, h)


def initial_steps(key: Array, count: int) -> Array:
    """Delta [count] of a new network: log-uniform in [0.001, 0.1]."""
    return jnp.exp(log_uniform(key, (count,), 1e-3, 1e-1))


def inverse_softplus(y: Array) -> Array:
    """The x with softplus(x) = y > 0."""
    return y + jnp.log(-jnp.expm1(-y))


@models.register("mamba", paper="Gu, Dao 2023")
class Mamba(ResidualStack):
    """Mamba layers in residual blocks, without MLPs."""

    Config = MambaConfig
    Mixer = MambaMixer
