"""Bernoulli bandit with a Beta prior (Thompson 1933; the test bed of Duan et al. 2016 and Lin et al. 2023)."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from icrl.core import struct
from icrl.core.errors import require
from icrl.core.fields import setting
from icrl.core.registry import environments
from icrl.core.threefry import uniform
from icrl.core.types import Array, TaskParams
from icrl.envs._bandit import Bandit


@struct.dataclass
class BernoulliBanditTask(TaskParams):
    """Success probabilities."""

    means: Array = struct.field(default_factory=lambda: jnp.zeros(5))  # [K] float32 in [0, 1]


@environments.register("BernoulliBandit-v0", paper="Lin et al. 2023")
@dataclasses.dataclass(frozen=True)
class BernoulliBandit(Bandit[BernoulliBanditTask]):
    """mu_a ~ Beta(prior_a, prior_b) independently; reward 1 with probability mu_a, else 0."""

    exact_sampler = "thompson-bernoulli"

    prior_a: float = setting(1.0, low=0.0, open_low=True, help="of the prior Beta(a, b) of the arms' means")
    prior_b: float = setting(1.0, low=0.0, open_low=True, help="of the prior Beta(a, b) of the arms' means")

    def sample_task(self, key: Array) -> BernoulliBanditTask:
        shape = (self.num_arms,)
        is_uniform = self.prior_a == self.prior_b == 1.0
        prior = self.prior_a, self.prior_b
        means = uniform(key, shape) if is_uniform else jax.random.beta(key, *prior, shape, jnp.float32)
        return BernoulliBanditTask(means=means, max_steps_in_episode=self.horizon)

    def arm_means(self, params: BernoulliBanditTask) -> Array:
        return params.means

    def draw_reward(self, key: Array, mean: Array, params: BernoulliBanditTask) -> Array:
        del params
        return (uniform(key) < mean).astype(jnp.float32)

    def validate_task(self, params: BernoulliBanditTask) -> None:
        super().validate_task(params)
        means = np.asarray(params.means)
        require(bool(((means >= 0) & (means <= 1)).all()), "task.means", means.tolist(), "probabilities in [0, 1]")
