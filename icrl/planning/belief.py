"""The belief filter of a finite POMDP, in JAX: the exact posterior over (task, state) given all that was perceived.

    b'(s') = P(o | a, s') sum_s b(s) P(s' | s, a) 1[r(s, a, s') = r] 1[s' is an end, or not] / (the same summed over s')

(Astrom 1965; Smallwood and Sondik 1973), with the reward and the end of the episode as evidence beside the observation.
Letters as in ``icrl.planning.pomdp``; ``tables`` are in 32 bits.
"""

import jax
import jax.numpy as jnp

from icrl.core.types import Array
from icrl.planning.pomdp import SAME_REWARD, Tables


def prior(tables: Tables) -> Array:
    """The belief before an episode in a task drawn uniformly, [S] float32."""
    return spread(tables, jnp.full(tables.num_tasks, 1.0 / tables.num_tasks, jnp.float32))


def spread(tables: Tables, tasks: Array) -> Array:
    """The belief before an episode where tasks have the probabilities ``tasks`` [N], [S] float32."""
    weights = tasks[:, None] * tables.start_prob
    return jnp.zeros(tables.num_states, jnp.float32).at[jnp.asarray(tables.starts)].add(weights)


def task_posterior(tables: Tables, belief: Array) -> Array:
    """What a belief [S] says of the tasks, [N] float32."""
    return jax.ops.segment_sum(belief, jnp.asarray(tables.task), tables.num_tasks)


def seen_first(tables: Tables, belief: Array, obs: Array) -> Array:
    """The belief [S] at the start of an episode after its first observation [] int32; S zeros if it is impossible."""
    return normalised(belief * likelihood(jnp.asarray(tables.first_obs), jnp.asarray(tables.first_prob), obs))


def updated(tables: Tables, belief: Array, action: Array, reward: Array, obs: Array, ended: Array) -> Array:
    """The belief [S] after a step; S zeros if the step is impossible under ``belief``.

    Args:
      tables: in 32 bits.
      belief: [S] float32, before the action.
      action: [] int32 in 0 .. K - 1.
      reward: [] float32.
      obs: [] int32 in 0 .. O - 1, after the action.
      ended: [] bool, whether the step terminated the episode.
    """
    after = jnp.asarray(tables.next)[action]  # [S, B]
    paid = jnp.asarray(tables.reward)[action]
    explains = jnp.abs(paid - reward) <= SAME_REWARD * jnp.maximum(jnp.float32(1.0), jnp.abs(paid))
    explains &= jnp.asarray(tables.ends)[after] == ended
    weights = belief[:, None] * jnp.asarray(tables.prob)[action] * explains
    arrived = jnp.zeros_like(belief).at[after].add(weights)
    return normalised(arrived * likelihood(jnp.asarray(tables.obs)[action], jnp.asarray(tables.obs_prob)[action], obs))


def predicted(tables: Tables, belief: Array, action: Array) -> Array:
    """The law of the next observation, [O] float32."""
    after, prob = jnp.asarray(tables.next)[action], jnp.asarray(tables.prob)[action]
    arrived = jnp.zeros_like(belief).at[after].add(belief[:, None] * prob)
    shown = arrived[:, None] * jnp.asarray(tables.obs_prob)[action]
    return jnp.zeros(tables.num_obs, jnp.float32).at[jnp.asarray(tables.obs)[action]].add(shown)


def likelihood(numbers: Array, probs: Array, obs: Array) -> Array:
    """P(o | s) of lists [S, M], [S] float32."""
    return jnp.sum(jnp.where(numbers == obs, probs, jnp.float32(0.0)), axis=-1)


def normalised(weights: Array) -> Array:
    """``weights`` [S] >= 0 over their sum; zeros stay zeros."""
    total = jnp.sum(weights)
    return weights / jnp.where(total > 0.0, total, jnp.float32(1.0))


def drawn(fraction: Array, belief: Array) -> Array:
    """The state that ``fraction`` [] float32 in [0, 1) draws from ``belief`` [S], [] int32; never one of chance 0."""
    below = jnp.cumsum(belief)
    return jnp.sum(fraction * below[-1] >= below[:-1]).astype(jnp.int32)
