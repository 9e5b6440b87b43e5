"""Gaussian bandit (Lee et al. 2023, Supervised Pretraining Can Learn In-Context Reinforcement Learning, section 4)."""

import dataclasses

import jax.numpy as jnp

from icrl.core import struct
from icrl.core.fields import setting
from icrl.core.registry import environments
from icrl.core.threefry import normal, uniform
from icrl.core.types import Array, TaskParams
from icrl.envs._bandit import Bandit


@struct.dataclass
class GaussianBanditTask(TaskParams):
    """Arm means."""

    means: Array = struct.field(default_factory=lambda: jnp.zeros(5))  # [K] float32


@environments.register("GaussianBandit-v0", paper="Lee et al. 2023")
@dataclasses.dataclass(frozen=True)
class GaussianBandit(Bandit[GaussianBanditTask]):
    """mu_a ~ U[0, 1] independently; reward N(mu_a, noise_std^2). The paper's K = 5, T = 500, noise_std = 0.3."""

    exact_sampler = "posterior-gaussian"

    noise_std: float = setting(0.3, low=0.0, help="standard deviation of the reward noise")

    def sample_task(self, key: Array) -> GaussianBanditTask:
        return GaussianBanditTask(means=uniform(key, (self.num_arms,)), max_steps_in_episode=self.horizon)

    def arm_means(self, params: GaussianBanditTask) -> Array:
        return params.means

    def draw_reward(self, key: Array, mean: Array, params: GaussianBanditTask) -> Array:
        del params
        return mean + self.noise_std * normal(key)
