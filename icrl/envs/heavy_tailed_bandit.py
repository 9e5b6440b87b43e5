"""Bandit with Student-t noise: rewards without an exponential moment (Bubeck, Cesa-Bianchi, Lugosi 2013)."""

import dataclasses

import jax.numpy as jnp

from icrl.core.fields import setting
from icrl.core.registry import environments
from icrl.core.threefry import uniform
from icrl.core.types import Array
from icrl.envs._bandit import Bandit
from icrl.envs.gaussian_bandit import GaussianBanditTask


@environments.register("HeavyTailedBandit-v0", paper="Bubeck et al. 2013")
@dataclasses.dataclass(frozen=True)
class HeavyTailedBandit(Bandit[GaussianBanditTask]):
    """mu_a ~ U[0, 1]; reward mu_a + noise_std sqrt((df - 2) / df) t with Student's t of ``df`` > 2 degrees of freedom.

    Its standard deviation is ``noise_std``, that of ``GaussianBandit-v0``, so that only the tails differ. Moments of
    order ``df`` and above do not exist.
    """

    noise_std: float = setting(0.3, low=0.0, help="standard deviation of the reward noise")
    df: float = setting(3.0, low=2.0, open_low=True, help="degrees of freedom")

    def sample_task(self, key: Array) -> GaussianBanditTask:
        return GaussianBanditTask(means=uniform(key, (self.num_arms,)), max_steps_in_episode=self.horizon)

    def arm_means(self, params: GaussianBanditTask) -> Array:
        return params.means

    def draw_reward(self, key: Array, mean: Array, params: GaussianBanditTask) -> Array:
        """Bailey 1994, Polar Generation of Random Variates with the t-Distribution: no rejection, two uniforms."""
        del params
        u, v = uniform(key, (2,))
        t = jnp.sqrt(self.df * jnp.expm1(-2.0 / self.df * jnp.log1p(-u))) * jnp.cos(2.0 * jnp.pi * v)
        return mean + self.noise_std * jnp.sqrt(jnp.float32((self.df - 2.0) / self.df)) * t
