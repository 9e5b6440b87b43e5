"""Backward induction: exact optimal values of a finite episode in a known tabular model (Bellman 1957).

Environments ask for the truth with it, planning agents for what a model promises; neither may know the other.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from icrl.core.types import Array


def backward_induction(transition: Array, reward: Array, ceiling: Array | float = jnp.inf) -> Array:
    """Q_h = min(ceiling_h, r_h + P V_{h+1}) with V_h = max_a Q_h and V_H = 0.

    Args:
      transition: P [S, K, S] float32, probabilities of the next state, the same at every step.
      reward: r [H, S, K] float32, expected reward of each step.
      ceiling: the most that may be promised, float32 of a shape that broadcasts to [H, S, K].

    Returns:
      Q [H, S, K] float32; ``Q[h]`` holds for step h of the episode, when H - h actions are left.
    """
    return optimistic_induction(partial(expected_value, transition), reward, ceiling)


def optimistic_induction(successor: Callable[[Array], Array], reward: Array, ceiling: Array | float) -> Array:
    """As ``backward_induction``, but what a pair's successors are worth is ``successor(V_{h+1} [S])``, [S, K]."""

    def backwards(value: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
        reward_h, ceiling_h = step
        q = jnp.minimum(ceiling_h, reward_h + successor(value))
        return q.max(-1), q

    ceilings = jnp.broadcast_to(jnp.asarray(ceiling, jnp.float32), reward.shape)
    nothing = jnp.zeros(reward.shape[1], jnp.float32)
    return jax.lax.scan(backwards, nothing, (reward, ceilings), reverse=True)[1]


def expected_value(transition: Array, value: Array) -> Array:
    """P V, [S, K], of P [S, K, S] and V [S]."""
    # accelerators round the factors of a product to 10 bits unless told otherwise; values are to be exact
    return jnp.matmul(transition, value, precision=jax.lax.Precision.HIGHEST)
