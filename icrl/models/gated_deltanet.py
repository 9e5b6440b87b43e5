"""Gated DeltaNet (Yang et al. 2024, "Gated delta networks: improving Mamba2 with delta rule").

S <- alpha S (I - beta k k^T) + beta v k^T, o = S q / sqrt(d_k): all fades by alpha, and what stood under the key k is
replaced, in part beta, by v. q, k and v pass a short convolution and SiLU; q and k have length 1. beta = sigmoid(.),
log alpha = -exp(A_log) softplus(. + dt_bias). The output is RMS-normalised per head and gated by SiLU.

Chunks of C steps use the WY form (there, section 3.3): with Gamma_ij the decay from j to i, the strictly lower L_ij =
beta_i Gamma_ij k_i . k_j, T = (I + L)^-1, U = T (beta V) and W = T (beta decay K), the corrected values are V' = U -
W S, and then the chunk is one of ``matrix_memory`` with V' for V. T comes from products of blocks: no LAPACK, and no
power series of L, which grows without bound where keys repeat. S is kept as [d_k, d_v].
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from icrl.errors import require, require_int
from icrl.models.mamba import initial_steps, inverse_softplus
from icrl.models.matrix_memory import after, decays, read
from icrl.models.recurrence import in_chunks
from icrl.models.residual import Mixer, ResidualStack, StackConfig
from icrl.models.short_conv import ShortConv
from icrl.registry import models
from icrl.types import Array

CHUNK = 32  # C


@dataclasses.dataclass(frozen=True)
class GatedDeltaNetConfig(StackConfig):
    """Shape of the model."""

    num_heads: int = 2  # H, divides width; d_k = width / H
    expand_v: int = 2  # d_v / d_k
    conv_taps: int = 4  # inputs the short convolutions see

    def __post_init__(self) -> None:
        super().__post_init__()
        require_int("num_heads", self.num_heads, 1, self.width)
        require(self.width % self.num_heads == 0, "num_heads", self.num_heads, f"a divisor of width {self.width}")
        require_int("expand_v", self.expand_v, 1, 64)
        require_int("conv_taps", self.conv_taps, 1, 64)


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
        self.qkv = nnx.Linear(D, features, use_bias=False, rngs=rngs)
        self.conv = ShortConv(features, config.conv_taps, rngs)
        self.ab = nnx.Linear(D, 2 * H, use_bias=False, rngs=rngs)
        self.A_log = nnx.Param(jnp.log(jax.random.uniform(rngs.params(), (H,), minval=1e-3, maxval=16.0)))
        self.dt_bias = nnx.Param(inverse_softplus(initial_steps(rngs.params(), H)))
        self.norm = nnx.RMSNorm(self.d_v, epsilon=1e-5, rngs=rngs)
        self.gate = nnx.Linear(D, H * self.d_v, use_bias=False, rngs=rngs)
        self.mix = nnx.Linear(H * self.d_v, D, use_bias=False, rngs=rngs)

    def initial_carry(self) -> GatedDeltaNetState:
        return GatedDeltaNetState(self.conv.initial_carry(), jnp.zeros((self.H, self.d_k, self.d_v), jnp.float32))

    def __call__(self, u: Array, start: Array, carry: GatedDeltaNetState) -> tuple[Array, GatedDeltaNetState]:
        length = u.shape[0]
        qkv, window = self.conv(self.qkv(u), start, carry.window)
        qkv = jax.nn.silu(qkv).reshape(length, self.H, -1)
        q, k, v = jnp.split(qkv, [self.d_k, 2 * self.d_k], axis=-1)
        a, b = jnp.split(self.ab(u), 2, axis=-1)
        log_alpha = -jnp.exp(self.A_log[...]) * jax.nn.softplus(a + self.dt_bias[...])
        q = _unit(q) * self.d_k**-0.5
        o, S = gated_delta_rule(q, _unit(k), v, log_alpha, jax.nn.sigmoid(b), start, carry.S)
        gated = self.norm(o) * jax.nn.silu(self.gate(u)).reshape(o.shape)
        return self.mix(gated.reshape(length, -1)), GatedDeltaNetState(window, S)


def gated_delta_rule(
    q: Array, k: Array, v: Array, log_alpha: Array, beta: Array, start: Array, S: Array
) -> tuple[Array, Array]:
    """Outputs o [T, H, d_v] = S^T q and the memory afterwards.

    Args:
      q, k: [T, H, d_k], k of length 1; v: [T, H, d_v].
      log_alpha: [T, H], at most 0; beta: [T, H] in 0 .. 1 (to 2: negative eigenvalues).
      start: [T] bool.
      S: [H, d_k, d_v], the memory before; its type is that of the computation.
    """
    items = jax.tree.map(lambda x: x.astype(S.dtype), (q, k, v, log_alpha, beta))
    S, o = in_chunks(_advance, S, (*items, start), CHUNK)
    return o, S


def _advance(S: Array, chunk: tuple[Array, ...]) -> tuple[Array, Array]:
    q, k, v, log_alpha, beta, start = chunk
    decay = decays(log_alpha, start)
    L = jnp.tril(jnp.einsum("ihk,jhk->hij", k * beta[..., None], k) * decay.between, -1)
    T = unit_lower_inverse(L)
    U = jnp.einsum("hij,jhv->ihv", T, beta[..., None] * v)
    W = jnp.einsum("hij,jhk->ihk", T, (beta * decay.since_before.T)[..., None] * k)
    corrected = U - jnp.einsum("ihk,hkv->ihv", W, S)
    return after(k, corrected, decay, S), read(q, k, corrected, decay, S)


def unit_lower_inverse(L: Array) -> Array:
    """(I + L)^-1 for strictly lower L [..., C, C].

    Inverses of diagonal blocks of size s give those of size 2 s: the new lower block is -(inverse) L (inverse).
    """
    size, index = L.shape[-1], jnp.arange(L.shape[-1])
    inverse = jnp.broadcast_to(jnp.eye(size, dtype=L.dtype), L.shape)
    s = 1
    while s < size:
        block = index // s
        joins = (block[:, None] == block[None, :] + 1) & (block[:, None] % 2 == 1)
        inverse = inverse - inverse @ jnp.where(joins, L, 0) @ inverse
        s *= 2
    return inverse


def _unit(x: Array) -> Array:
    """Vectors along the last axis, scaled to length 1; almost-zero ones stay finite, gradients included."""
    return x * jax.lax.rsqrt(jnp.sum(x * x, axis=-1, keepdims=True) + 1e-6)


@models.register("gated-deltanet", paper="Yang et al. 2024")
class GatedDeltaNet(ResidualStack):
    """Gated delta rule in the blocks of a transformer, without positions."""

    Config = GatedDeltaNetConfig
    Mixer = GatedDeltaNetMixer
