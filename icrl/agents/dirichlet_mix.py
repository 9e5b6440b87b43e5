"""The behaviour policy of the DPT bandit data: a fixed random mix of arms per context (Lee et al. 2023, A.3)."""

from typing import Any, Self

import jax
import jax.numpy as jnp

from icrl.agents._arm_agent import MAX_ARMS
from icrl.core import struct
from icrl.core.fields import required
from icrl.core.registry import agents
from icrl.core.types import Agent, Array, Environment, Transition

NUM_WEIGHTS = 11  # w in {0.0, 0.1, ..., 1.0} as in the released code; the paper's text lists 0.1 to 1.0


@agents.register("dirichlet-mix", paper="Lee et al. 2023")
@struct.dataclass
class DirichletMix(Agent):
    """Plays arms from p = (1 - w) p1 + w p2, drawn once: p1 ~ Dir(1_K), p2 one uniformly random arm, w on a grid.

    Its state is the cumulative distribution [K] float32; it never learns, so its histories are exchangeable.
    """

    num_arms: int = required(low=1, high=MAX_ARMS, static=True, help="K, arms")

    @classmethod
    def for_env(cls, env: Environment, **settings: Any) -> Self:
        return cls(**{"num_arms": env.num_actions, **settings})

    def init(self, key: Array) -> Array:
        key_spread, key_arm, key_weight = jax.random.split(key, 3)
        spread = jax.random.exponential(key_spread, (self.num_arms,), jnp.float32)
        favourite = jnp.arange(self.num_arms) == jax.random.randint(key_arm, (), 0, self.num_arms, jnp.int32)
        weight = jax.random.randint(key_weight, (), 0, NUM_WEIGHTS, jnp.int32).astype(jnp.float32) / (NUM_WEIGHTS - 1)
        return jnp.cumsum((1.0 - weight) * spread / jnp.sum(spread) + weight * favourite)

    def act(self, key: Array, state: Array, obs: Array) -> Array:
        del obs
        # Inverse CDF; scaled by the last entry because a float32 sum of probabilities may end just below 1.
        point = jax.random.uniform(key, (), jnp.float32) * state[-1]
        return jnp.sum(state[:-1] <= point).astype(jnp.int32)

    def update(self, state: Array, transition: Transition) -> Array:
        del transition
        return state
