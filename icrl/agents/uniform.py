"""Uniformly random actions."""

import jax
import jax.numpy as jnp

from icrl import struct
from icrl.agents.arm_agent import ArmAgent, ArmStats
from icrl.registry import agents
from icrl.types import Array


@agents.register("uniform", paper="-")
@struct.dataclass
class Uniform(ArmAgent):
    """Every action with probability 1/K."""

    def act(self, key: Array, state: ArmStats, obs: Array) -> Array:
        del state, obs
        return jax.random.randint(key, (), 0, self.num_arms, jnp.int32)
