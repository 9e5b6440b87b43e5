"""Gittins index policy for Bernoulli arms: optimal for discounted rewards without end (Gittins 1979)."""

from typing import Any, Self

import jax.numpy as jnp
import numpy as np

from icrl.agents._arm_agent import ArmStats, ArmStatsAgent
from icrl.core import struct
from icrl.core.errors import require
from icrl.core.fields import setting
from icrl.core.registry import agents
from icrl.core.types import Array, Environment
from icrl.planning.gittins import gittins_table

MAX_DISCOUNT, MAX_PULLS = 0.99, 200  # of the default table: a few seconds of work


@agents.register("gittins", paper="Gittins 1979")
@struct.dataclass
class Gittins(ArmStatsAgent):
    """Pull the arm with the largest Gittins index for mu_a ~ Beta(prior_a, prior_b); the first on ties.

    The index is exact in the discounted problem. In an episode of T pulls it comes close to the Bayes-optimal policy:
    ``for_env`` takes discount 1 - 1 / T, at most 0.99. Past ``max_pulls`` = M pulls, the size of the table, an arm
    pulled n times has its mean plus M / n of what M pulls with that mean would have on top of theirs, for so the
    index tends to the mean (Brezzi, Lai 2002, Optimal Learning and Experimentation in Bandit Problems).

    The prior is read off the environment, else uniform. Rewards are meant to be 0 and 1; sums that such rewards cannot
    have are clipped. Settings shape the table, so that none of them can be swept.
    """

    discount: float = setting(0.99, low=0.0, high=MAX_DISCOUNT, static=True, help="discount of a reward one pull later")
    max_pulls: int = setting(MAX_PULLS, low=0, high=MAX_PULLS, static=True, help="M, pulls of one arm in the table")
    prior_a: float = setting(1.0, low=0.0, open_low=True, static=True, help="a of the prior Beta(a, b)")
    prior_b: float = setting(1.0, low=0.0, open_low=True, static=True, help="b of the prior Beta(a, b)")

    @classmethod
    def for_env(cls, env: Environment, **settings: Any) -> Self:
        require(env.spec.is_stationary_bandit, "environment", env.name, "a stationary bandit", "this agent needs one")
        horizon = env.spec.max_steps_in_episode
        known = {"discount": min(1.0 - 1.0 / horizon, MAX_DISCOUNT), "max_pulls": min(horizon, MAX_PULLS)}
        known |= env.facts("prior_a", "prior_b")
        agent = super().for_env(env, **{**known, **settings})
        agent.bonus_table()  # refuses bad settings, and does the work before anything is compiled
        return agent

    def bonus_table(self) -> np.ndarray:
        """Index minus posterior mean after n = 0 .. M pulls (rows) with S successes, [M + 1, M + 1] float32."""
        index = gittins_table(self.discount, self.max_pulls, self.prior_a, self.prior_b)
        pulls, successes = np.indices(index.shape)
        mean = (self.prior_a + successes) / (self.prior_a + self.prior_b + pulls)
        return np.where(successes <= pulls, index[successes, pulls - successes] - mean, 0.0).astype(np.float32)

    def index(self, state: ArmStats) -> Array:
        """The index of every arm, [K] float32."""
        pulls = jnp.minimum(state.count, self.max_pulls)
        share = jnp.where(state.count > pulls, pulls / jnp.maximum(state.count, 1), 1.0)  # M / n past the table
        successes = jnp.clip(state.total, 0.0, state.count)
        bonus = jnp.asarray(self.bonus_table())[pulls, jnp.round(share * successes).astype(jnp.int32)]
        return self.mean(state) + share * bonus

    def mean(self, state: ArmStats) -> Array:
        """Posterior means, [K] float32."""
        successes = jnp.clip(state.total, 0.0, state.count)
        return (self.prior_a + successes) / (self.prior_a + self.prior_b + state.count)

    def act(self, key: Array, state: ArmStats, obs: Array) -> Array:
        del key, obs
        return jnp.argmax(self.index(state)).astype(jnp.int32)

    def act_greedy(self, key: Array, state: ArmStats, obs: Array) -> Array:
        """The largest posterior mean, the first on ties."""
        del key, obs
        return jnp.argmax(self.mean(state)).astype(jnp.int32)
