"""Uniformly random actions."""

from typing import Any, Self

import jax.numpy as jnp

from icrl.agents._arm_agent import ArmStats, ArmStatsAgent
from icrl.core import struct
from icrl.core.boxes import Box
from icrl.core.registry import agents
from icrl.core.threefry import below, bits
from icrl.core.types import Array, Environment, Transition


@agents.register("uniform", paper="-")
@struct.dataclass
class Uniform(ArmStatsAgent):
    """Every action with probability 1/K; the same density everywhere in a box of actions, which counts as one arm."""

    box: Box | None = struct.field(pytree_node=False, default=None)

    @classmethod
    def for_env(cls, env: Environment, **settings: Any) -> Self:
        return cls(**{"num_arms": env.spec.num_actions or 1, "box": env.spec.action_box, **settings})

    def act(self, key: Array, state: ArmStats, obs: Array) -> Array:
        del state, obs
        return below(bits(key), self.num_arms) if self.box is None else self.box.draw(key)

    def update(self, state: ArmStats, transition: Transition) -> ArmStats:
        return super().update(state, transition if self.box is None else transition._replace(action=jnp.int32(0)))
