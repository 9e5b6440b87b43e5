"""The bandit of bsuite: rewards 0, 0.1, ..., 1 on eleven arms in an unknown order (Osband et al. 2020)."""

import dataclasses

import jax
import jax.numpy as jnp

from icrl.core.fields import setting
from icrl.core.registry import environments
from icrl.core.threefry import normal
from icrl.core.types import Array
from icrl.envs._bandit import Bandit
from icrl.envs.gaussian_bandit import GaussianBanditTask


@environments.register("PermutedBandit-v0", paper="Osband et al. 2020")
@dataclasses.dataclass(frozen=True)
class PermutedBandit(Bandit[GaussianBanditTask]):
    """Means are a random order of ``scale`` linspace(0, 1, K); no noise, or Gaussian noise.

    ``noise_std`` 0.1 to 10 is bsuite's bandit_noise, ``scale`` 0.001 to 1 000 its bandit_scale; 10 000 pulls. Its score
    is 1 - 2 (mean regret of a pull), cut to [0, 1].
    """

    num_arms: int = 11
    horizon: int = 10_000
    noise_std: float = setting(0.0, low=0.0, help="standard deviation of the reward noise")
    scale: float = setting(1.0, low=0.0, open_low=True, help="largest mean; the means lie in [0, scale]")

    def sample_task(self, key: Array) -> GaussianBanditTask:
        means = self.scale * jax.random.permutation(key, jnp.linspace(0.0, 1.0, self.num_arms, dtype=jnp.float32))
        return GaussianBanditTask(means=means, max_steps_in_episode=self.horizon)

    def arm_means(self, params: GaussianBanditTask) -> Array:
        return params.means

    def draw_reward(self, key: Array, mean: Array, params: GaussianBanditTask) -> Array:
        del params
        return mean + self.noise_std * normal(key)
