"""Linear Thompson sampling in its Bayesian form (Agrawal, Goyal 2013; Lin et al. 2023, section 5)."""

from typing import Any, Self

import jax.numpy as jnp

from icrl.agents._grids import multiples
from icrl.agents._linear_agent import LinearAgent, LinearStats
from icrl.core import struct
from icrl.core.fields import setting
from icrl.core.registry import agents
from icrl.core.threefry import normal
from icrl.core.types import Array, Environment, Grid


@agents.register("lin-ts", paper="Agrawal, Goyal 2013")
@struct.dataclass
class LinTS(LinearAgent):
    """theta ~ N(mean, (I / prior_var + sum x x^T / s^2)^-1), the posterior of the prior N(0, prior_var I); argmax.

    On ``LinearBandit-v0`` (theta ~ N(0, I/d)) ``for_env`` takes that prior, which makes this exact posterior
    sampling. On ``ShownLinearBandit-v0`` it takes N(0, I), as Lin et al. do although theta ~ U[0, 1]^d.
    """

    prior_var: float = setting(1.0, low=0.0, open_low=True, help="prior variance of each coordinate of theta")
    noise_std: float = setting(0.3, low=0.0, help="s, reward units; below 0.01 it counts as 0.01, for float32's sake")

    @classmethod
    def for_env(cls, env: Environment, **settings: Any) -> Self:
        known = {"prior_var": 1.0, **env.facts("noise_std")}
        if env.features is not None:
            known["prior_var"] = 1.0 / env.features.shape[1]
        return super().for_env(env, **{**known, **settings})

    @classmethod
    def candidates(cls, env: Environment) -> Grid:
        return multiples(cls, env, ("noise_std",), (0.1, 0.25, 0.5, 2.0))

    def values(self, state: LinearStats, obs: Array, z: Array | float) -> Array:
        """<theta, x_a> [K] for the theta that lies ``z`` [d] posterior standard deviations from the mean."""
        noise_std = jnp.maximum(self.noise_std, 0.01)
        arms, moment = self.whiten(state, obs, jnp.square(noise_std) / self.prior_var)
        return (moment + noise_std * z) @ arms

    def act(self, key: Array, state: LinearStats, obs: Array) -> Array:
        z = normal(key, (self.dim,))
        return jnp.argmax(self.values(state, obs, z)).astype(jnp.int32)

    def act_greedy(self, key: Array, state: LinearStats, obs: Array) -> Array:
        """The largest posterior mean; arm 0 when nothing was seen."""
        del key
        return jnp.argmax(self.values(state, obs, 0.0)).astype(jnp.int32)
