"""OFUL: LinUCB with the width that its confidence set has (Abbasi-Yadkori, Pal, Szepesvari 2011, theorem 2)."""

from typing import Any, Self

import jax.numpy as jnp

from icrl.agents._grids import multiples
from icrl.agents._linear_agent import LinearAgent, LinearStats, eliminate
from icrl.core import struct
from icrl.core.fields import setting
from icrl.core.registry import agents
from icrl.core.types import Array, Environment, Grid


@agents.register("oful", paper="Abbasi-Yadkori et al. 2011")
@struct.dataclass
class OFUL(LinearAgent):
    """argmax <theta, x_a> + beta_t ||x_a||_{V^-1} with V = lam I + sum x x^T and theta = V^-1 sum r x.

    beta_t = R sqrt(2 ln(1 / delta) + ln(det V / lam^d)) + sqrt(lam) S: with probability 1 - delta the true parameter
    lies within beta_t of theta at every step, if the noise is R-sub-Gaussian and its length at most S. R is read off
    the environment's ``noise_std`` (rewards 0 and 1 have 1/2, the default).

    S is read off the environment's ``theta_length``, else it is 1. In ``LinearBandit-v0``, whose prior has no bound,
    one task in twenty has a longer parameter, for which the promise does not hold.
    """

    noise: float = setting(0.5, low=0.0, help="R, sub-Gaussian scale of the noise, reward units")
    length: float = setting(1.0, low=0.0, help="S, bound on the length of theta")
    lam: float = setting(1.0, low=0.0, open_low=True, help="ridge")
    delta: float = setting(0.05, low=0.0, high=1.0, open_low=True, open_high=True, help="probability of failure")

    @classmethod
    def for_env(cls, env: Environment, **settings: Any) -> Self:
        known = {"noise": 0.5 if env.noise_std is None else env.noise_std}
        known |= {} if env.theta_length is None else {"length": env.theta_length}
        return super().for_env(env, **{**known, **settings})

    @classmethod
    def candidates(cls, env: Environment) -> Grid:
        return multiples(cls, env, ("noise", "length"), (0.0, 0.1, 0.25, 0.5))

    def index(self, state: LinearStats, obs: Array) -> Array:
        """The optimistic value of every arm, [K]."""
        matrix = self.lam * jnp.eye(self.dim, dtype=jnp.float32) + state.gram
        columns = [state.moment, self.features_at(obs).T, matrix]
        whitened = eliminate(matrix, jnp.column_stack(columns), self.lam)  # L^-1 [b, x_1 .. x_K, V]
        moment, arms, root = whitened[:, 0], whitened[:, 1 : 1 + self.num_arms], whitened[:, 1 + self.num_arms :]
        log_det = 2.0 * jnp.sum(jnp.log(jnp.diagonal(root)))  # L^-1 V = L^T, and det V = det(L)^2
        gain = jnp.maximum(log_det - self.dim * jnp.log(self.lam), 0.0)
        beta = self.noise * jnp.sqrt(2.0 * jnp.log(1.0 / self.delta) + gain) + jnp.sqrt(self.lam) * self.length
        return moment @ arms + beta * jnp.sqrt(jnp.sum(jnp.square(arms), axis=0))

    def act(self, key: Array, state: LinearStats, obs: Array) -> Array:
        del key
        return jnp.argmax(self.index(state, obs)).astype(jnp.int32)

    def act_greedy(self, key: Array, state: LinearStats, obs: Array) -> Array:
        """Ridge regression without a bonus; arm 0 when nothing was seen."""
        del key
        arms, moment = self.whiten(state, obs, self.lam)
        return jnp.argmax(moment @ arms).astype(jnp.int32)
