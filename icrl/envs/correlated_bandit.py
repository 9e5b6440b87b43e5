"""Gaussian bandit whose neighbouring arms have similar means (Srinivas et al. 2010; Gaussian process bandits)."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from icrl.core.fields import setting
from icrl.core.registry import environments
from icrl.core.threefry import normal
from icrl.core.types import Array
from icrl.envs._bandit import Bandit
from icrl.envs.linear_bandit import LinearBanditTask

JITTER = 1e-6  # on the covariance's diagonal, which is singular in float64 for long lengths


@environments.register("CorrelatedBandit-v0", paper="Srinivas et al. 2010")
@dataclasses.dataclass(frozen=True)
class CorrelatedBandit(Bandit[LinearBanditTask]):
    """Means ~ N(0, C) with C_ab = exp(-(a - b)^2 / (2 length^2)); reward N(mu_a, noise_std^2).

    Written as a linear bandit, mu = phi theta with theta ~ N(0, I / K) and phi = sqrt(K) chol(C), so that linear agents
    know what the arms have in common, and ``lin-ts`` is exact posterior sampling.
    """

    num_arms: int = 10
    horizon: int = 200
    noise_std: float = setting(0.3, low=0.0, help="standard deviation of the reward noise")
    length: float = setting(2.0, low=0.0, open_low=True, help="how far similarity reaches, in arms")

    @property
    def features(self) -> Array:
        """phi, [K, K] float32."""
        gap = np.subtract.outer(np.arange(self.num_arms), np.arange(self.num_arms))
        covariance = np.exp(-np.square(gap / self.length) / 2.0) + JITTER * np.eye(self.num_arms)
        return jnp.asarray(np.sqrt(self.num_arms) * np.linalg.cholesky(covariance), jnp.float32)

    def sample_task(self, key: Array) -> LinearBanditTask:
        theta = normal(key, (self.num_arms,)) / jnp.sqrt(jnp.float32(self.num_arms))
        return LinearBanditTask(theta=theta, max_steps_in_episode=self.horizon)

    def arm_means(self, params: LinearBanditTask) -> Array:
        return self.features @ params.theta

    def draw_reward(self, key: Array, mean: Array, params: LinearBanditTask) -> Array:
        del params
        return mean + self.noise_std * normal(key)
