"""Linear rewards in fresh features at every pull: the setting of linear contextual bandits (Chu et al. 2011)."""

import dataclasses

from icrl.core.fields import setting
from icrl.core.registry import environments
from icrl.core.threefry import normal
from icrl.core.types import Array
from icrl.envs._sphere_features import SphereFeatures


@environments.register("ContextualLinearBandit-v0", paper="Chu et al. 2011")
@dataclasses.dataclass(frozen=True)
class ContextualLinearBandit(SphereFeatures):
    """Reward N(<theta, x_a>, noise_std^2) with theta and the features x_a of every arm and pull on the unit sphere."""

    noise_std: float = setting(0.3, low=0.0, help="standard deviation of the reward noise")

    norm = theta_length = 1.0

    def link(self, score: Array) -> Array:
        return score

    def draw_reward(self, key: Array, mean: Array) -> Array:
        """Gaussian, not 0 and 1."""
        return mean + self.noise_std * normal(key)
