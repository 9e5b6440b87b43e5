"""The gated delta rule, chunk by chunk in the WY form (Yang et al. 2024, "Gated delta networks", section 3.3).

S <- alpha S (I - beta k k^T) + beta v k^T: all fades by alpha, and what stood under the key k is replaced, in part
beta, by v. Without gate, alpha = 1, it is the delta rule (Yang et al. 2024, "Parallelizing linear transformers ...").

In a chunk of C steps, with Gamma_ij the decay from j to i, the strictly lower L_ij = beta_i Gamma_ij k_i . k_j, T =
(I + L)^-1, U = T (beta V) and W = T (beta decay K), the corrected values are V' = U - W S, and then the chunk is one
of ``matrix_memory`` with V' for V. T comes from products of blocks: no LAPACK, and no power series of L, which grows
without bound where keys repeat. S is kept as [d_k, d_v].
"""

import jax
import jax.numpy as jnp

from icrl.core.types import Array
from icrl.models.layers.matrix_memory import after, decays, read
from icrl.models.layers.recurrence import in_chunks

CHUNK = 32  # C


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


def unit_length(x: Array) -> Array:
    """Vectors along the last axis, scaled to length 1; almost-zero ones stay finite, gradients included."""
    return x * jax.lax.rsqrt(jnp.sum(x * x, axis=-1, keepdims=True) + 1e-6)
