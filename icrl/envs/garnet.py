"""Garnet: random tabular MDPs in which every action leads to few states (Archibald et al. 1995)."""

import dataclasses

import jax
import jax.numpy as jnp

from icrl.core.fields import setting
from icrl.core.registry import environments
from icrl.core.types import Array
from icrl.envs._tabular import TabularMDP, TabularTask


@environments.register("Garnet-v0", paper="Archibald et al. 1995; Bhatnagar et al. 2009")
@dataclasses.dataclass(frozen=True)
class Garnet(TabularMDP):
    """Garnet(S, K, b): each pair leads to b = ``branching`` different states, drawn without replacement.

    Their probabilities are the pieces into which b - 1 uniform points cut [0, 1], which is Dirichlet(1). Expected
    rewards are U[0, 1], so that bounds of UCB-VI hold; Bhatnagar et al. 2009 (Natural actor-critic algorithms, section
    7) draw N(0, 1) for every transition. Their noise of 0.1 is kept.
    """

    num_states: int = 20
    num_actions: int = 4
    horizon: int = 20
    noise_std: float = 0.1
    branching: int = setting(3, low=1, high="num_states", help="b, states that a pair can lead to")

    r_max = 1.0  # a bound on expected rewards that an agent may know

    def sample_task(self, key: Array) -> TabularTask:
        key_order, key_weight, key_reward = jax.random.split(key, 3)
        table = (self.num_states, self.num_actions)
        order = jnp.argsort(jax.random.uniform(key_order, (*table, self.num_states), jnp.float32))
        weight = jax.random.exponential(key_weight, (*table, self.num_states), jnp.float32)
        reached = jnp.where(order < self.branching, weight, 0.0)  # a rank below b: b of them, wherever they stand
        transition = reached / jnp.sum(reached, axis=-1, keepdims=True)
        return self.task_of(transition, jax.random.uniform(key_reward, table, jnp.float32))
