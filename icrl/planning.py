"""Backward induction: exact optimal values of a finite episode in a known tabular model (Bellman 1957).

Environments ask for the truth with it, planning agents for what a model promises; neither may know the other.
"""

import jax
import jax.numpy as jnp

from icrl.types import Array


def backward_induction(transition: Array, reward: Array, ceiling: Array | float = jnp.inf) -> Array:
    """Q_h = min(ceiling_h, r_h + P V_{h+1}) with V_h = max_a Q_h and V_H = 0.

    Args:
      transition: P [S, K, S] float32, probabilities of the next state, the same at every step.
      reward: r [H, S, K] float32, expected reward of each step.
      ceiling: [H] float32, or one number: the most that may be promised from step h on.

    Returns:
      Q [H, S, K] float32; ``Q[h]`` holds for step h of the episode, when H - h actions are left.
    """
    horizon, num_states, _ = reward.shape

    def backwards(value: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
        reward_h, ceiling_h = step
        # accelerators round the factors of a product to 10 bits unless told otherwise; values are to be exact
        promised = jnp.matmul(transition, value, precision=jax.lax.Precision.HIGHEST)
        q = jnp.minimum(ceiling_h, reward_h + promised)
        return q.max(-1), q

    ceilings = jnp.broadcast_to(jnp.asarray(ceiling, jnp.float32), (horizon,))
    _, q = jax.lax.scan(backwards, jnp.zeros(num_states, jnp.float32), (reward, ceilings), reverse=True)
    return q
