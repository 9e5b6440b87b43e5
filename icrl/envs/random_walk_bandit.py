"""Gaussian arms whose means wander (Slivkins, Upfal 2008, Adapting to a Changing Environment: Brownian bandits)."""

import dataclasses

import jax.numpy as jnp

from icrl.core.fields import setting
from icrl.core.registry import environments
from icrl.core.threefry import normal, split, uniform
from icrl.core.types import Array
from icrl.envs._drifting import Drifting, DriftingTask


@environments.register("RandomWalkBandit-v0", paper="Slivkins, Upfal 2008")
@dataclasses.dataclass(frozen=True)
class RandomWalkBandit(Drifting):
    """mu_a(0) ~ U[0, 1], then steps N(0, step_std^2), reflected at 0 and 1: uniform at all times; Gaussian rewards."""

    step_std: float = setting(0.03, low=0.0, help="standard deviation of a mean's step")
    noise_std: float = setting(0.3, low=0.0, help="standard deviation of the reward noise")

    def sample_task(self, key: Array) -> DriftingTask:
        key_start, key_steps = split(key)
        start = uniform(key_start, (1, self.num_arms))
        steps = self.step_std * normal(key_steps, (self.horizon - 1, self.num_arms))
        walk = jnp.cumsum(jnp.concatenate([start, steps]), axis=0)
        folded = jnp.abs(walk - 2.0 * jnp.round(walk / 2.0))  # mirrors at 0 and 1 are this zigzag of a free walk
        return DriftingTask(means=folded, max_steps_in_episode=self.horizon)

    def draw_reward(self, key: Array, mean: Array) -> Array:
        return mean + self.noise_std * normal(key)
