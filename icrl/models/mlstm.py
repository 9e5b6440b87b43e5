"""mLSTM, the LSTM whose cell is a matrix (Beck et al. 2024, "xLSTM: extended long short-term memory", section 2.3).

C <- f C + i v k^T;  n <- f n + i k;  h = C q / max(|n . q|, 1)  with  i = exp(i~), f = sigmoid(f~), k over sqrt(d).

The exponential gate is stabilised: C and n are kept over e^m, with m_t = max(log f_t + m_{t-1}, i~_t), and the floor 1
becomes e^-m. What comes out does not depend on m, so no gradient passes through it, and it may be held above
``FLOOR``, where e^-m is finite. n is one more column of C, the one that a constant value 1 writes. In a chunk of steps
the weight of j at i is e^(log f_(j+1) + ... + log f_i + i~_j - m_i); the rest is ``matrix_memory``.

The block: (x, z) = up(u);  c = SiLU(conv(x));  q, k from c, v from x, gates from (q, k, v);  out = down((norm(h) + s c)
SiLU(z)) with a norm of each head and a learned skip s. Departure: q, k and v come from full matrices, not from blocks.
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
from icrl.models.layers.matrix_memory import CHUNK, Decay, after, log_decays, read
from icrl.models.layers.recurrence import in_chunks
from icrl.models.layers.residual import Mixer, ResidualStack, StackConfig
from icrl.models.layers.short_conv import ShortConv

FLOOR = -30.0  # of m
NEVER = -1e30  # a logarithm whose exponential is 0, and still can be subtracted


@dataclasses.dataclass(frozen=True)
class MLSTMConfig(StackConfig):
    """Shape of the model."""

    block: str = "none"
    num_heads: int = setting(2, low=1, high="channels", help="H, heads; divides E")
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


class MLSTMState(NamedTuple):
    """What one layer remembers."""

    window: Array  # [taps - 1, E] float32, latest inputs of the convolution
    C: Array  # [H, d, d + 1] float32: C and, last, n, both over e^m
    m: Array  # [H] float32


class MLSTMMixer(Mixer):
    """The matrix memory between two projections."""

    def __init__(self, config: MLSTMConfig, rngs: nnx.Rngs):
        D, self.H = config.width, config.num_heads
        E = config.expand * D
        self.E, self.d = E, E // self.H
        self.up = linear(config.matmuls, D, 2 * E, rngs, use_bias=False)
        self.conv = ShortConv(E, config.conv_taps, rngs)
        self.qk = linear(config.matmuls, E, 2 * E, rngs, use_bias=False)
        self.v = linear(config.matmuls, E, E, rngs, use_bias=False)
        self.gates = linear(config.matmuls, 3 * E, 2 * self.H, rngs, kernel_init=nnx.initializers.zeros, use_bias=False)
        self.i_bias = nnx.Param(0.1 * jax.random.normal(rngs.params(), (self.H,), jnp.float32))
        f_bias = jnp.linspace(3.0, 6.0, self.H, dtype=jnp.float32)  # a new memory lasts for 20 to 400 steps
        self.f_bias = nnx.Param(f_bias)
        self.norm = nnx.LayerNorm(self.d, use_bias=False, use_scale=False, epsilon=1e-5, rngs=rngs)
        self.scale = nnx.Param(jnp.ones(E, jnp.float32))
        self.skip = nnx.Param(jnp.ones(E, jnp.float32))
        self.down = linear(config.matmuls, E, D, rngs, use_bias=False)

    def initial_carry(self) -> MLSTMState:
        C = jnp.zeros((self.H, self.d, self.d + 1), jnp.float32)
        return MLSTMState(self.conv.initial_carry(), C, jnp.zeros(self.H, jnp.float32))

    def __call__(self, u: Array, start: Array, carry: MLSTMState) -> tuple[Array, MLSTMState]:
        length = u.shape[0]
        x, z = jnp.split(self.up(u), 2, axis=-1)
        c, window = self.conv(x, start, carry.window)
        c = jax.nn.silu(c)
        qkv = jnp.concatenate([self.qk(c), self.v(x)], axis=-1)
        i, f = jnp.split(self.gates(qkv), 2, axis=-1)
        q, k, v = qkv.reshape(length, 3, self.H, self.d).swapaxes(0, 1)
        log_f = jax.nn.log_sigmoid(f + self.f_bias[None])
        h, C, m = mlstm(q, k * self.d**-0.5, v, i + self.i_bias[None], log_f, start, carry.C, carry.m)
        h = self.norm(h).reshape(length, self.E) * self.scale[None]
        return self.down((h + self.skip[None] * c) * jax.nn.silu(z)), MLSTMState(window, C, m)


def mlstm(
    q: Array, k: Array, v: Array, i: Array, log_f: Array, start: Array, C: Array, m: Array
) -> tuple[Array, Array, Array]:
    """Outputs h [T, H, d_v], the memory afterwards and its m.

    Args:
      q, k: [T, H, d_k], k scaled; v: [T, H, d_v].
      i: [T, H], logarithm of the input gate.
      log_f: [T, H], of the forget gate, at most 0.
      start: [T] bool.
      C: [H, d_k, d_v + 1], the memory before, its last column n; its type is that of the computation.
      m: [H], such that the true memory is e^m C.
    """
    items = jax.tree.map(lambda x: x.astype(C.dtype), (q, k, v, i, log_f))
    (C, m), h = in_chunks(_advance, (C, m), (*items, start), CHUNK)
    return h, C, m


def _advance(memory: tuple[Array, Array], chunk: tuple[Array, ...]) -> tuple[tuple[Array, Array], Array]:
    (C, m), (q, k, v, i, log_f, start) = memory, chunk
    log = log_decays(log_f, start)
    written = jnp.where(log.visible, log.between + i.T[:, None, :], NEVER)  # [H, i, j]
    found = jnp.where(log.unbroken, log.since_before + m[:, None], NEVER)  # [H, i]
    m = jax.lax.stop_gradient(jnp.maximum(jnp.maximum(jnp.max(written, axis=-1), found), FLOOR))
    decay = Decay(jnp.exp(written - m[..., None]), jnp.exp(found - m))
    v = jnp.concatenate([v, jnp.ones_like(v[..., :1])], axis=-1)
    Cq = read(q, k, v, decay, C)
    h = Cq[..., :-1] / jnp.maximum(jnp.abs(Cq[..., -1:]), jnp.exp(-m.T)[..., None])
    return (after(k, v, decay, C), m[:, -1]), h


@models.register("mlstm", paper="Beck et al. 2024")
class MLSTM(ResidualStack):
    """mLSTM layers in residual blocks, without MLPs: xLSTM[1:0]."""

    Config = MLSTMConfig
    Mixer = MLSTMMixer
