"""The adversarial bandit of algorithm distillation: where the good arm lies is turned round after pretraining."""

import dataclasses

import jax
import jax.numpy as jnp

from icrl.core.fields import setting
from icrl.core.registry import environments
from icrl.core.threefry import uniform
from icrl.core.types import Array
from icrl.envs._bandit import Bandit
from icrl.envs.bernoulli_bandit import BernoulliBanditTask


@environments.register("OddEvenBandit-v0", paper="Laskin et al. 2022")
@dataclasses.dataclass(frozen=True)
class OddEvenBandit(Bandit[BernoulliBanditTask]):
    """One good arm among K, odd-numbered with probability ``odd_prob``, uniform among those; rewards 1 and 0.

    Laskin et al. 2022, section 5: 10 arms, 100 pulls, 0.95 in training and 0.05 in evaluation. Arms are numbered from 0
    here. How likely an arm pays they do not say; ours pay with ``good`` and ``bad``.
    """

    num_arms: int = 10
    horizon: int = 100
    odd_prob: float = setting(0.95, low=0.0, high=1.0, help="probability that the good arm is odd-numbered")
    good: float = setting(0.9, low=0.0, high=1.0, help="probability that the good arm pays")
    bad: float = setting(0.1, low=0.0, high=1.0, help="probability that another arm pays")

    @property
    def num_tasks(self) -> int:
        """Task i has the good arm i."""
        return self.num_arms

    def task(self, index: Array | int) -> BernoulliBanditTask:
        """The task number ``index`` in 0 .. K - 1; traceable."""
        means = jnp.where(jnp.arange(self.num_arms) == index, jnp.float32(self.good), self.bad)
        return BernoulliBanditTask(means=means, max_steps_in_episode=self.horizon)

    def sample_task(self, key: Array) -> BernoulliBanditTask:
        key_side, key_arm = jax.random.split(key)
        arms = jnp.arange(self.num_arms)
        side = (uniform(key_side) < self.odd_prob).astype(jnp.int32)
        weight = jnp.where(arms % 2 == side, jnp.float32(1.0), 1e-9)  # a single arm is even, whatever was drawn
        return self.task(jax.random.categorical(key_arm, jnp.log(weight)))

    def arm_means(self, params: BernoulliBanditTask) -> Array:
        return params.means

    def draw_reward(self, key: Array, mean: Array, params: BernoulliBanditTask) -> Array:
        del params
        return (uniform(key) < mean).astype(jnp.float32)
