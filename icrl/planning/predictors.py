"""Exact predictors of the next outcome of a sequence of examples: posterior means under known priors over its task.

Two priors for each kind of task. Linear regression, y = w x + noise: w ~ N(0, tau^2 I), whose posterior mean is ridge
regression, and w uniform on a pool of M (dMMSE of Raventos et al. 2023). Balls drawn from an urn: Dirichlet(alpha), and
one of M urns (the two strategies of Wurgaft et al. 2025).

Every function reads one sequence, predicts each outcome from those before it, and keeps a memory of fixed size from
step to step; ``vmap`` runs over sequences. They compute in the type of what they are given (float64 in x64 mode).
Nothing is factorised: the inverse that ridge regression needs is updated by rank one, O(D^2) a step.

Letters: K examples, D features, M tasks of a pool, V colours.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from icrl.core.types import Array


def ridge(x: Array, y: Array, penalty: float) -> Array:
    """E[w x_k | x_1, y_1, ..., x_{k-1}, y_{k-1}] under w ~ N(0, tau^2 I), [K].

    Args:
      x: features [K, D].
      y: outcomes w x + noise [K]; that of example k is not read for its own prediction.
      penalty: lambda = noise variance / tau^2 > 0.
    """
    dim = x.shape[1]

    def step(state: tuple[Array, Array], example: tuple[Array, Array]) -> tuple[tuple[Array, Array], Array]:
        mean, P = state  # of w, and (lambda I + sum x x^T)^-1
        x_k, y_k = example
        predicted = mean @ x_k
        Px = P @ x_k
        gain = Px / (1 + x_k @ Px)  # Sherman and Morrison
        return (mean + gain * (y_k - predicted), P - jnp.outer(gain, Px)), predicted

    start = jnp.zeros(dim, x.dtype), jnp.eye(dim, dtype=x.dtype) / penalty
    return jax.lax.scan(step, start, (x, y))[1]


def dmmse(x: Array, y: Array, pool: Array, noise_variance: float) -> Array:
    """The same for w uniform on the rows of ``pool`` [M, D], [K]: sum_m w_m x_k exp(-SSE_m / 2 s^2) / sum_m ...

    Raventos et al. 2023, equation 4; ``noise_variance`` s^2 > 0. O(M D) a step.
    """

    def step(log_weight: Array, example: tuple[Array, Array]) -> tuple[Array, Array]:
        x_k, y_k = example
        outcome = pool @ x_k
        predicted = jax.nn.softmax(log_weight) @ outcome
        return log_weight - jnp.square(y_k - outcome) / (2 * noise_variance), predicted

    return jax.lax.scan(step, jnp.zeros(pool.shape[0], x.dtype), (x, y))[1]


def dirichlet_mean(y: Array, num_colors: int, alpha: float, dtype: Any = None) -> Array:
    """P(y_k = v | y_1, ..., y_{k-1}) = (n_v + alpha) / (k - 1 + V alpha) under a Dirichlet(alpha) prior, [K, V].

    Args:
      y: colours [K] int32 in 0 .. V - 1.
      num_colors: V.
      alpha: > 0, the same for all colours.
      dtype: of the probabilities; None: the default type of floats.
    """

    def probs(count: Array) -> Array:
        return (count + alpha) / jnp.sum(count + alpha)

    start = jnp.zeros(num_colors, dtype or jnp.zeros(()).dtype)
    return _counting(y, start, probs)


def pool_mixture(y: Array, pool: Array) -> Array:
    """The same for an urn that is a row of ``pool`` [M, V], all as likely before the first ball, [K, V].

    Wurgaft et al. 2025's memorising predictor: sum_m p_m prod_v p_mv^n_v, normalised; first the mean of the pool. A
    colour that an urn does not have rules it out once it is drawn; if every urn is ruled out, all weigh the same.
    """
    log_pool = jnp.log(pool)

    def probs(count: Array) -> Array:
        log_weight = jnp.sum(jnp.where(count[None] > 0, count[None] * log_pool, 0), axis=1)  # 0 log 0 = 0
        known = jnp.isfinite(jnp.max(log_weight))
        return jax.nn.softmax(jnp.where(known, log_weight, jnp.zeros_like(log_weight))) @ pool

    return _counting(y, jnp.zeros(pool.shape[1], pool.dtype), probs)


def _counting(y: Array, start: Array, probs: Callable[[Array], Array]) -> Array:
    """``probs`` of the counts [V] of the colours in front of each of ``y`` [K]."""

    def step(count: Array, color: Array) -> tuple[Array, Array]:
        return count.at[color].add(1), probs(count)

    return jax.lax.scan(step, start, y)[1]
