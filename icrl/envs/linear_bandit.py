"""Linear bandit whose arms are fixed across tasks and hidden (Lee et al. 2023, section 5.1 and appendix A.3)."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from scipy.special import chdtri

from icrl.core import struct
from icrl.core.fields import setting
from icrl.core.registry import environments
from icrl.core.threefry import normal
from icrl.core.types import Array, TaskParams
from icrl.envs._bandit import Bandit

# RandomState(1234).normal(size=(10, 2)) / sqrt(2): the draw of the authors' released code, K = 10, d = 2.
RELEASED_FEATURES = (
    (0.3334, -0.8421), (1.0131, -0.2211), (-0.5095, 0.6273), (0.6078, -0.4501), (0.0111, -1.5858),
    (0.8132, 0.7014), (0.6741, -1.4292), (-0.2362, 0.0015), (0.2867, 0.2044), (0.9342, -1.0938),
)  # fmt: skip

LONGER = 0.05  # probability of a theta that is longer than the bound


@struct.dataclass
class LinearBanditTask(TaskParams):
    """The unknown parameter."""

    theta: Array = struct.field(default_factory=lambda: jnp.zeros(2))  # [d] float32


@environments.register("LinearBandit-v0", paper="Lee et al. 2023")
@dataclasses.dataclass(frozen=True)
class LinearBandit(Bandit[LinearBanditTask]):
    """theta ~ N(0, I/d); reward N(<theta, phi_a>, noise_std^2); phi is shared by all tasks and never observed.

    With the paper's K = 10, d = 2 and ``feature_seed=None`` the features are those of the released code (to four
    digits); otherwise they are drawn once, phi_a ~ N(0, I/d), from ``feature_seed`` (0 when it is None).
    """

    exact_sampler = "lin-ts"

    num_arms: int = 10
    horizon: int = 200
    dim: int = setting(2, low=1, high=256, help="d, features of an arm")
    noise_std: float = setting(0.3, low=0.0, help="standard deviation of the reward noise")
    feature_seed: int | None = setting(
        None, low=0, high=2**32 - 1, help="seed of the arms' features; none: the released ones"
    )

    @property
    def features(self) -> Array:
        """phi, [K, d] float32."""
        if self.feature_seed is None and (self.num_arms, self.dim) == (10, 2):
            return jnp.array(RELEASED_FEATURES, jnp.float32)
        key = jax.random.key(self.feature_seed or 0)
        return normal(key, (self.num_arms, self.dim)) / jnp.sqrt(jnp.float32(self.dim))

    @property
    def theta_length(self) -> float:
        """A bound that an agent may put on the length of theta, which has none: exceeded in 5 % of tasks."""
        return math.sqrt(chdtri(self.dim, LONGER) / self.dim)  # d |theta|^2 is chi-squared

    def sample_task(self, key: Array) -> LinearBanditTask:
        theta = normal(key, (self.dim,)) / jnp.sqrt(jnp.float32(self.dim))
        return LinearBanditTask(theta=theta, max_steps_in_episode=self.horizon)

    def arm_means(self, params: LinearBanditTask) -> Array:
        return self.features @ params.theta

    def draw_reward(self, key: Array, mean: Array, params: LinearBanditTask) -> Array:
        del params
        return mean + self.noise_std * normal(key)
