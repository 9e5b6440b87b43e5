"""Thompson sampling for rewards 0 and 1: exact posterior sampling under a Beta prior (Thompson 1933)."""

from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp

from icrl.agents._arm_agent import ArmStats, ArmStatsAgent, argmax_random_ties
from icrl.core import struct
from icrl.core.fields import setting
from icrl.core.registry import agents
from icrl.core.threefry import uniform_pairs
from icrl.core.types import Array, Environment, Grid

GRID = 256  # midpoints of the quadrature


@agents.register("thompson-bernoulli", paper="Thompson 1933")
@struct.dataclass
class ThompsonBernoulli(ArmStatsAgent):
    """mu_a | data ~ Beta(a + S_a, b + F_a) with S successes and F failures; pull the arm with the largest draw.

    The prior is read off the environment (``prior_a``, ``prior_b``), else uniform. It is meant
    for rewards 0 and 1; sums that such rewards cannot have are clipped.
    """

    prior_a: float = setting(1.0, low=0.0, open_low=True, help="a of the prior Beta(a, b)")
    prior_b: float = setting(1.0, low=0.0, open_low=True, help="b of the prior Beta(a, b)")

    grid: ClassVar[Grid] = (
        {"prior_a": 0.5, "prior_b": 0.5},
        {"prior_a": 2.0, "prior_b": 2.0},
        {"prior_a": 1.0, "prior_b": 3.0},
        {"prior_a": 3.0, "prior_b": 1.0},
    )

    @classmethod
    def for_env(cls, env: Environment, **settings: Any) -> Self:
        return super().for_env(env, **{**env.facts("prior_a", "prior_b"), **settings})

    def posterior(self, state: ArmStats) -> tuple[Array, Array]:
        """Both parameters of the Beta posterior, [K] each."""
        successes = jnp.clip(state.total, 0.0, state.count)
        return self.prior_a + successes, self.prior_b + state.count - successes

    def act(self, key: Array, state: ArmStats, obs: Array) -> Array:
        del obs
        return jnp.argmax(beta_log_odds(key, *self.posterior(state))).astype(jnp.int32)

    def act_greedy(self, key: Array, state: ArmStats, obs: Array) -> Array:
        """The largest posterior mean, ties broken uniformly: Bayes-optimal for the last pull."""
        del obs
        a, b = self.posterior(state)
        return argmax_random_ties(key, a / (a + b))

    def on_grid(self, state: ArmStats) -> tuple[Array, Array, Array]:
        """Points mu [GRID], each arm's posterior mass there [K, GRID] and its distribution function there [K, GRID].

        In the angle phi with mu = sin(phi)^2 the posterior is proportional to sin^(2a-1) cos^(2b-1) and about
        1 / (2 sqrt(n)) wide wherever it lies, so one grid fits all up to 1 000 pulls of an arm and for ``prior_a``,
        ``prior_b`` of at least 1/2.
        """
        a, b = (parameter[:, None] for parameter in self.posterior(state))
        angle = (jnp.arange(GRID, dtype=jnp.float32)[None] + 0.5) * (jnp.pi / 2 / GRID)
        log_density = (2 * a - 1) * jnp.log(jnp.sin(angle)) + (2 * b - 1) * jnp.log(jnp.cos(angle))
        mass = jax.nn.softmax(log_density, axis=-1)
        return jnp.sin(angle[0]) ** 2, mass, jnp.cumsum(mass, axis=-1) - mass / 2

    def optimal_action_probs(self, state: ArmStats) -> Array:
        """P(arm a is the best | data), [K]: the law of ``act``. Off by less than 1e-3 where the grid fits."""
        _, mass, below = self.on_grid(state)
        rivals = jnp.where(jnp.eye(self.num_arms, dtype=bool)[:, :, None], 1.0, below[None])  # [arm, rival, GRID]
        probs = jnp.sum(mass * jnp.prod(rivals, axis=1), axis=-1)
        return probs / jnp.sum(probs)


def beta_log_odds(key: Array, a: Array, b: Array) -> Array:
    """ln(x / (1 - x)) for independent x ~ Beta(a, b); a, b [K] > 0 float32. The typed threefry key is consumed.

    x = G_a / (G_a + G_b) of two Gamma draws, so that the log-odds are the difference of their logarithms.
    ``jax.random.beta`` takes many times as long: it splits a key for every proposal of every element.
    """
    log_gamma = log_gamma_draws(key, jnp.concatenate([a, b]))
    return log_gamma[: a.size] - log_gamma[a.size :]


def log_gamma_draws(key: Array, shape: Array) -> Array:
    """Logarithms of independent draws from Gamma(shape, 1), shape [N] > 0 float32. The typed threefry key is consumed.

    Marsaglia, Tsang 2000, A Simple Method for Generating Gamma Variables: a draw d (1 + c x)^3 for shape + 1, of which
    at least 98 % are accepted, times U^(1 / shape). Given that u was accepted with probability p, u / p is uniform
    again and independent of the draw; it is that U.
    """
    d = shape + 2.0 / 3.0
    c = 1.0 / (3.0 * jnp.sqrt(d))

    def propose(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        tries, draw, accepted = carry
        level, u = uniform_pairs(key, tries, shape.size)
        x = jnp.sqrt(jnp.float32(2.0)) * jax.lax.erf_inv(2.0 * level - 1.0)
        v = (1.0 + c * x) ** 3
        log_v, log_u = jnp.log(jnp.maximum(v, 1e-30)), jnp.log(u)
        log_p = x * x / 2.0 + d * (1.0 - v + log_v)
        fits = (v > 0.0) & (log_u < log_p)
        return tries + 1, jnp.where(accepted, draw, log_v + (log_u - log_p) / shape), accepted | fits

    start = jnp.uint32(0), jnp.zeros_like(d), jnp.zeros(d.shape, bool)
    _, draw, _ = jax.lax.while_loop(lambda carry: ~jnp.all(carry[2]), propose, start)
    return jnp.log(d) + draw
