"""Bernoulli arms that are all drawn anew at random moments (after Garivier, Moulines 2011, switching bandits)."""

import dataclasses

import jax
import jax.numpy as jnp

from icrl.core.fields import setting
from icrl.core.registry import environments
from icrl.core.threefry import uniform
from icrl.core.types import Array
from icrl.envs._drifting import Drifting, DriftingTask


@environments.register("SwitchingBandit-v0", paper="Garivier, Moulines 2011")
@dataclasses.dataclass(frozen=True)
class SwitchingBandit(Drifting):
    """Means ~ U[0, 1]^K at the start, and again after each pull with probability ``change_prob``; rewards 1 and 0."""

    change_prob: float = setting(
        0.01, low=0.0, high=1.0, help="probability that the means are drawn again after a pull"
    )

    def sample_task(self, key: Array) -> DriftingTask:
        key_change, key_means = jax.random.split(key)
        changes = jax.random.bernoulli(key_change, jnp.float32(self.change_prob), (self.horizon,)).at[0].set(False)
        drawn = uniform(key_means, (self.horizon, self.num_arms))
        # at step t the draw of the last step that changed, of step 0 before the first change
        last_change = jax.lax.cummax(jnp.where(changes, jnp.arange(self.horizon), 0))
        return DriftingTask(means=drawn[last_change], max_steps_in_episode=self.horizon)

    def draw_reward(self, key: Array, mean: Array) -> Array:
        return (uniform(key) < mean).astype(jnp.float32)
