"""Who serves a token: gates over experts, and the two losses that keep routers honest.

Letters: E experts, K of them chosen, B sequences of a batch. Logits may have any leading axes.
"""

import jax
import jax.numpy as jnp

from icrl.core.types import Array


def top_gates(logits: Array, K: int) -> Array:
    """Gates [..., E]: the softmax over the K largest logits [..., E], exactly 0 elsewhere; K = E is a plain softmax."""
    E = logits.shape[-1]
    chosen = jax.nn.one_hot(jax.lax.top_k(logits, K)[1], E, dtype=jnp.float32).sum(-2)
    return jax.nn.softmax(jnp.where(chosen > 0, logits, -jnp.inf), axis=-1)


def expected_load(clean: Array, noisy: Array, std: Array, K: int) -> Array:
    """Probability [..., E] that an expert is among the K if its own noise alone is drawn anew (Shazeer et al. 2017, A).

    With the K-th largest of the *other* noisy logits as threshold it is Phi((clean - threshold) / std). Whether an
    expert is in now, so that the others' K-th is the (K + 1)-th of all, is decided by its noisy logit; T2MIR's
    released code compares the bare noise there.
    """
    E = clean.shape[-1]
    if K == E:
        return jnp.ones_like(clean)
    largest = jax.lax.top_k(noisy, K + 1)[0]
    last_in, first_out = largest[..., K - 1 : K], largest[..., K:]
    threshold = jnp.where(noisy > first_out, first_out, last_in)
    return jax.scipy.special.ndtr((clean - threshold) / std)


def cv_squared(total: Array) -> Array:
    """Squared coefficient of variation of total [E], unbiased variance: 0 when all are equal, E when one has all."""
    if total.shape[0] == 1:
        return jnp.float32(0.0)
    return jnp.var(total, ddof=1) / (jnp.mean(total) ** 2 + 1e-10)


def contrastive_loss(q: Array, k: Array, W: Array) -> Array:
    """InfoNCE of router outputs q [B, E] against targets k [B, E] through W [E, E], [] float32.

    Rows 2i and 2i + 1 are of one task. Each is matched with the target of its twin, among the twins of all tasks; no
    temperature, no normalisation, ln(B / 2) at W = 0. Tasks that occur twice in a batch are negatives of each other.
    """
    pairs = jnp.arange(q.shape[0] // 2)
    first, second = q[0::2] @ W @ k[1::2].T, q[1::2] @ W @ k[0::2].T
    matched = jnp.stack([first, second])
    return -jnp.mean(jax.nn.log_softmax(matched)[:, pairs, pairs])
