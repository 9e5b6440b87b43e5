"""sLSTM, the LSTM with exponential gates (Beck et al. 2024, "xLSTM: extended long short-term memory", section 2.2).

i = exp(i~), f = sigmoid(f~), z = tanh(z~), o = sigmoid(o~), each of W u + R h + b;  c <- f c + i z;  n <- f n + i;
h <- o c / n. i~ and f~ read u through a short convolution and SiLU; R connects the features of a head alone.

c and n are kept over e^m with m_t = max(log f_t + m_{t-1}, i~_t). c / n does not depend on m, so no gradient passes
through it; a start is m = "never", which leaves n >= 1. The gates see h, so there is no parallel form: a scan. Behind
the mixer stands a gated MLP of 4/3 of the width; departure: its gate is SiLU instead of GELU.
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
from icrl.models.layers.residual import Mixer, ResidualStack, StackConfig
from icrl.models.layers.short_conv import ShortConv
from icrl.models.mlstm import NEVER


@dataclasses.dataclass(frozen=True)
class SLSTMConfig(StackConfig):
    """Shape of the model."""

    mlp_ratio: float = 4 / 3
    mlp: str = "swiglu"
    num_heads: int = setting(2, low=1, high="width", help="H, heads; divides width")
    conv_taps: int = setting(4, low=1, high=64, help="inputs the short convolution sees")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.width % self.num_heads == 0, "num_heads", self.num_heads, f"a divisor of width {self.width}")


class Cell(NamedTuple):
    """The recurrent state."""

    c: Array  # [D] float32, over e^m
    n: Array  # [D] float32, over e^m
    m: Array  # [D] float32
    h: Array  # [D] float32


class SLSTMState(NamedTuple):
    """What one layer remembers."""

    window: Array  # [taps - 1, D] float32, latest inputs of the convolution
    cell: Cell


class SLSTMMixer(Mixer):
    """W, R and the bias hold i, f, z and o side by side."""

    def __init__(self, config: SLSTMConfig, rngs: nnx.Rngs):
        D, self.H = config.width, config.num_heads
        self.D, self.d = D, D // self.H
        self.conv = ShortConv(D, config.conv_taps, rngs)
        self.W_if = linear(config.matmuls, D, 2 * D, rngs, use_bias=False)
        self.W_zo = linear(config.matmuls, D, 2 * D, rngs, use_bias=False)
        self.R = nnx.Param(jax.random.normal(rngs.params(), (4, self.H, self.d, self.d), jnp.float32) / self.d**0.5)
        self.bias = nnx.Param(jnp.zeros((4, D), jnp.float32).at[1].set(jnp.linspace(3.0, 6.0, D, dtype=jnp.float32)))
        self.norm = nnx.LayerNorm(self.d, use_bias=False, use_scale=False, epsilon=1e-5, rngs=rngs)
        self.scale = nnx.Param(jnp.ones(D, jnp.float32))

    def initial_carry(self) -> SLSTMState:
        zero = jnp.zeros(self.D, jnp.float32)
        return SLSTMState(self.conv.initial_carry(), Cell(zero, zero, zero + NEVER, zero))

    def __call__(self, u: Array, start: Array, carry: SLSTMState) -> tuple[Array, SLSTMState]:
        length = u.shape[0]
        smooth, window = self.conv(u, start, carry.window)
        Wu = jnp.concatenate([self.W_if(jax.nn.silu(smooth)), self.W_zo(u)], axis=-1).reshape(length, 4, self.D)
        Wu = (Wu + self.bias[None]).astype(carry.cell.c.dtype)
        cell, h = jax.lax.scan(self._step, carry.cell, (Wu, start))
        h = self.norm(h.reshape(length, self.H, self.d)).reshape(length, self.D)
        return h * self.scale[None], SLSTMState(window, cell)

    def _step(self, cell: Cell, item: tuple[Array, Array]) -> tuple[Cell, Array]:
        Wu, start = item
        c, n, h = (jnp.where(start, 0, x) for x in (cell.c, cell.n, cell.h))
        m_before = jnp.where(start, NEVER, cell.m)
        Rh = jnp.einsum("ghij,hi->ghj", self.R[...], h.reshape(self.H, self.d))
        i, f, z, o = Wu + Rh.reshape(4, self.D)
        log_f = jax.nn.log_sigmoid(f)
        m = jax.lax.stop_gradient(jnp.maximum(log_f + m_before, i))
        kept, written = jnp.exp(log_f + m_before - m), jnp.exp(i - m)
        c, n = kept * c + written * jnp.tanh(z), kept * n + written
        h = jax.nn.sigmoid(o) * c / n
        return Cell(c, n, m, h), h


@models.register("slstm", paper="Beck et al. 2024")
class SLSTM(ResidualStack):
    """sLSTM layers, each with a gated MLP behind: xLSTM[0:1]."""

    Config = SLSTMConfig
    Mixer = SLSTMMixer
