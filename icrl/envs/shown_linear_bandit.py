"""Linear bandit with fresh arms in every task, shown in the observation (Lin, Bai, Mei 2023, section 5)."""

import dataclasses
import math

import jax.numpy as jnp

from icrl.core import struct
from icrl.core.fields import setting
from icrl.core.registry import environments
from icrl.core.threefry import normal, split, uniform
from icrl.core.types import Array, EnvSpec, TaskParams
from icrl.envs._bandit import Bandit


@struct.dataclass
class ShownLinearBanditTask(TaskParams):
    """The unknown parameter and the known arms of one task."""

    theta: Array = struct.field(default_factory=lambda: jnp.zeros(5, jnp.float32))  # [d] float32
    features: Array = struct.field(default_factory=lambda: jnp.zeros((10, 5), jnp.float32))  # [K, d] float32


@environments.register("ShownLinearBandit-v0", paper="Lin et al. 2023")
@dataclasses.dataclass(frozen=True)
class ShownLinearBandit(Bandit[ShownLinearBanditTask]):
    """w ~ U[0, 1]^d, arms ~ U[-1, 1]^(K x d) per task; reward N(<a, w>, noise_std^2); the observation is the arms.

    The observation is the K x d feature matrix, flattened row by row, and is the same at every step of a task.
    """

    num_arms: int = 10
    horizon: int = 200
    dim: int = setting(5, low=1, high=256, help="d, features of an arm")
    noise_std: float = setting(1.5, low=0.0, help="standard deviation of the reward noise")

    @property
    def spec(self) -> EnvSpec:
        return EnvSpec(type(self).__name__, self.num_arms, (self.num_arms * self.dim,), -1.0, 1.0, self.horizon)

    @property
    def theta_length(self) -> float:
        """sqrt(d), the length of the longest w."""
        return math.sqrt(self.dim)

    def observe(self, params: ShownLinearBanditTask) -> Array:
        return params.features.reshape(-1)

    def sample_task(self, key: Array) -> ShownLinearBanditTask:
        key_theta, key_features = split(key)
        theta = uniform(key_theta, (self.dim,))
        features = uniform(key_features, (self.num_arms, self.dim), minval=-1.0, maxval=1.0)
        return ShownLinearBanditTask(theta=theta, features=features, max_steps_in_episode=self.horizon)

    def arm_means(self, params: ShownLinearBanditTask) -> Array:
        return params.features @ params.theta

    def draw_reward(self, key: Array, mean: Array, params: ShownLinearBanditTask) -> Array:
        del params
        return mean + self.noise_std * normal(key)
